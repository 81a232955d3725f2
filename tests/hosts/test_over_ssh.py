"""Jobs over real SSH connections, to two addresses of the loopback; no TensorFlow in them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.conftest import StartOnHosts
from tests.hosts.local_client import CLIENT
from tests.hosts.ssh_hosts import SshHosts
from tests.launch.processes import children_of, command
from tests.launch.support import is_alive, wait_until
from tfdist.cluster import Cluster

pytestmark = pytest.mark.timeout(60)
WAIT = "open(name, 'w').write(str(os.getpid())); print('waits', flush=True); time.sleep(60)"
AGENT = "tfdist.launch.hosts.agent"


def said_by(launcher: subprocess.Popen[str]) -> str:
    return launcher.communicate(timeout=50)[0]


def tasks_in(folder: Path, count: int = 2) -> list[int]:
    """The process ids that tasks which wait have written."""

    def found() -> list[int]:
        texts = [path.read_text() for path in folder.glob("worker:*")]
        return [int(text) for text in texts if text]

    return list(wait_until(lambda: found() if len(found()) == count else None, 30))


def all_end(pids: list[int], seconds: float = 15) -> bool:
    return bool(wait_until(lambda: not any(map(is_alive, pids)), seconds))


def test_a_job_runs_on_two_hosts_as_on_one(start: StartOnHosts, tmp_path: Path) -> None:
    body = """
        told = {key: os.environ.get(key) for key in ("TF_CONFIG", "MINE", "TFDIST_SECRET")}
        print(json.dumps([name, os.getcwd(), sys.argv[1:], os.environ["SSH_CONNECTION"], told]))
        sys.stdout.write("x" * 300_000)
    """
    launcher = start(body, "--env", "MINE=it's", "--workers", "3", arguments=["--a", "$b c"])
    said = said_by(launcher)
    assert launcher.returncode == 0, said
    assert "[tfdist] hosts: a: worker:0, worker:1; b: worker:2" in said
    secrets, servers = set(), []
    (logs,) = (tmp_path / "tfdist_logs").iterdir()
    for number in range(3):
        log = (logs / f"worker-{number}.log").read_text()
        assert log.endswith("\n" + "x" * 300_000)
        name, folder, arguments, connection, told = json.loads(log.splitlines()[0])
        assert (name, folder, arguments) == (f"worker:{number}", str(tmp_path), ["--a", "$b c"])
        assert told["MINE"] == "it's"
        secrets.add(told["TFDIST_SECRET"])
        servers.append(connection.split()[2])
        address = Cluster.from_json(told["TF_CONFIG"]).address(name)
        assert address.startswith(f"{servers[-1]}:")
    assert servers == ["127.0.0.1", "127.0.0.1", "127.0.0.2"]
    (secret,) = secrets
    assert len(secret) == 64


def test_the_first_failure_is_named_with_its_host_and_ends_all(
    start: StartOnHosts, tmp_path: Path
) -> None:
    body = """
        if name == "worker:1":
            sys.exit("no such data")
        time.sleep(60)
    """
    launcher = start(body)
    said = said_by(launcher)
    assert launcher.returncode == 1, said
    assert "[tfdist] the first failure: worker:1 on b ended with exit code 1" in said
    assert "[tfdist]   no such data" in said
    assert "then worker:0 on a was ended by SIGTERM (exit code 143): ended by tfdist" in said


def test_nothing_is_left_when_the_launcher_is_killed(start: StartOnHosts, tmp_path: Path) -> None:
    launcher = start(WAIT)
    tasks = tasks_in(tmp_path)
    agents = [parent_of(task) for task in tasks]
    connections = [one for one in children_of(launcher.pid) if AGENT in command(one)]
    assert len(connections) == 2
    assert all(AGENT in command(agent) for agent in agents)
    # The job's secret is on no command line, and is not the server's to know.
    for one in (*connections, *agents):
        assert b"TFDIST_SECRET" not in Path(f"/proc/{one}/cmdline").read_bytes()
        assert b"TFDIST_SECRET" not in Path(f"/proc/{one}/environ").read_bytes()
    launcher.kill()
    assert all_end([*tasks, *agents, *connections])


def test_ctrl_c_ends_all_hosts(start: StartOnHosts, tmp_path: Path) -> None:
    launcher = start(WAIT)
    tasks = tasks_in(tmp_path)
    launcher.send_signal(signal.SIGINT)
    said = said_by(launcher)
    assert launcher.returncode == 130, said
    assert "Ctrl-C: ending worker:0, worker:1 within 1 s" in said
    assert not any(map(is_alive, tasks))


def kill_connection(launcher: subprocess.Popen[str], task: int) -> None:
    """Ends what is between launcher and agent, on the server's side."""
    os.kill(parent_of(parent_of(task)), signal.SIGKILL)


def kill_agent(launcher: subprocess.Popen[str], task: int) -> None:
    os.kill(parent_of(task), signal.SIGKILL)


@pytest.mark.parametrize("kill", [kill_connection, kill_agent])
def test_a_lost_host_ends_the_job_and_its_tasks(
    start: StartOnHosts, tmp_path: Path, kill: Callable[[subprocess.Popen[str], int], None]
) -> None:
    launcher = start(WAIT)
    tasks = tasks_in(tmp_path)
    kill(launcher, int((tmp_path / "worker:1").read_text()))
    said = said_by(launcher)
    assert launcher.returncode == 75, said
    assert "the first failure: worker:1 on b was lost: the connection to its host has " in said
    assert all_end(tasks)


@pytest.mark.thorough
def test_a_lost_host_is_connected_to_again_where_a_restart_is_left(
    start: StartOnHosts, tmp_path: Path
) -> None:
    body = """
        if not os.path.exists(name):
            open(name, "w").write(str(os.getpid()))
            time.sleep(60)
        print("came again")
    """
    launcher = start(body, "--max_restarts", "1")
    tasks_in(tmp_path)
    kill_connection(launcher, int((tmp_path / "worker:1").read_text()))
    said = said_by(launcher)
    assert launcher.returncode == 0, said
    assert "starting all tasks again (1 of 1)" in said
    assert "[tfdist] connecting to b again" in said
    assert said.count("came again") == 2


@pytest.mark.thorough
def test_an_elastic_job_goes_on_without_a_lost_host_and_comes_back_to_it(
    start: StartOnHosts, tmp_path: Path
) -> None:
    """First on both, then on a alone, then, as that task is lost too, on b alone."""
    body = """
        begins = os.path.exists(name) + os.path.exists("again")
        open("again" if begins else name, "w").write(str(os.getpid()))
        if begins == 0:
            time.sleep(60)
        elif begins == 1:
            time.sleep(2)  # until b may be taken again
            os.kill(os.getpid(), signal.SIGKILL)
        print("ends on", os.environ["SSH_CONNECTION"].split()[2])
    """
    launcher = start(body, "--workers", "1:2", "--settle", "1")
    tasks_in(tmp_path)
    kill_connection(launcher, int((tmp_path / "worker:1").read_text()))
    said = said_by(launcher)
    assert launcher.returncode == 0, said
    assert "going on with 1 of 2 workers" in said
    assert "[tfdist] connecting to b again" in said
    assert "ends on 127.0.0.2" in said


@pytest.mark.thorough
def test_a_lost_worker_of_servers_is_started_again_on_its_host(
    start: StartOnHosts, tmp_path: Path
) -> None:
    body = """
        if name == "worker:1" and not os.path.exists(name):
            open(name, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(3 if name == "chief:0" else 60 * (task["type"] == "ps"))
        print(name, "ends", os.environ["SSH_CONNECTION"].split()[2])
    """
    launcher = start(body, "--workers", "2", "--ps", "1")
    said = said_by(launcher)
    assert launcher.returncode == 0, said
    assert "worker:1 on b was ended by SIGKILL (exit code 137" in said
    assert "starting it again (1 of 3)" in said
    assert "[worker:1] worker:1 ends 127.0.0.2" in said
    assert "the chief has ended well: ending ps:0 within 1 s" in said


@pytest.mark.thorough
def test_tasks_that_are_stopped_or_leave_something_are_named(
    start: StartOnHosts, tmp_path: Path
) -> None:
    body = """
        if name == "worker:0":
            subprocess.Popen(["sleep", "50"])
            sys.exit()
        os.kill(os.getpid(), signal.SIGSTOP)
    """
    launcher = start(body, "--stall_timeout", "1")
    said = said_by(launcher)
    assert "worker:0 has ended and left a process running, ended now:" in said
    assert "worker:1 is stopped (SIGSTOP) for" in said
    assert " on b lets it go on" in said
    assert "worker:1 on b was stopped (SIGSTOP) for" in said
    assert launcher.returncode == 75


def test_all_that_is_wrong_is_named_before_anything_starts(
    start: StartOnHosts, hosts: SshHosts, tmp_path: Path
) -> None:
    """Three hosts at once: a good one, one that refuses, one whose host key is not known."""
    free = str(hosts.port + 1 if hosts.port < 65535 else hosts.port - 1)
    extra = tmp_path / "config"
    known = tmp_path / "known"
    known.touch()
    extra.write_text(
        f"Host closed\n  HostName 127.0.0.1\n  Port {free}\n"
        f"Host stranger\n  HostName 127.0.0.1\n  UserKnownHostsFile {known}\n"
        f"  StrictHostKeyChecking yes\nInclude {hosts.config}\n"
    )
    launcher = start(
        "print('runs')", "--ssh", f"ssh -F {extra}", hosts="a,closed,stranger,x.invalid"
    )
    said = said_by(launcher)
    assert launcher.returncode == 64, said
    assert "host closed refuses SSH connections: start sshd there" in said
    assert "host stranger has a host key that is not known here" in said
    assert "host x.invalid has a name that is not known" in said
    assert "runs" not in said
    assert not (tmp_path / "tfdist_logs").exists()


@pytest.mark.thorough
def test_a_key_that_is_refused_is_named(
    start: StartOnHosts, hosts: SshHosts, tmp_path: Path
) -> None:
    launcher = start("print('runs')", "--ssh", f"{hosts.ssh} -o PubkeyAuthentication=no")
    said = said_by(launcher)
    assert launcher.returncode == 64, said
    assert said.count("does not let this user in, and no password is asked: ssh-copy-id ") == 2


@pytest.mark.thorough
def test_another_version_on_a_host_is_named(
    start: StartOnHosts, hosts: SshHosts, tmp_path: Path
) -> None:
    """Another TensorFlow by its metadata, which lie in front on the hosts' path alone."""
    fake = tmp_path / "fake" / "tensorflow-1.0.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorflow\nVersion: 1.0\n")
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH={fake.parent}:$PYTHONPATH exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    launcher = start("print('runs')", "--python", str(python))
    said = said_by(launcher)
    assert launcher.returncode == 64, said
    assert "host a has TensorFlow 1.0, and TensorFlow 2" in said
    assert "host b has TensorFlow 1.0" in said
    assert "runs" not in said


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("other", "script", "said"),
    [
        ("/no/folder", None, "host b has no folder /no/folder, or none that can be entered"),
        ("other", None, "host b has no script script.py; put it there, as it is here"),
        ("other", "print('old')", "host b has another script script.py than is here; copy it"),
    ],
)
def test_another_folder_or_script_on_a_host_is_named(
    start: StartOnHosts, tmp_path: Path, other: str, script: str | None, said: str
) -> None:
    (tmp_path / "other").mkdir()
    if script is not None:
        (tmp_path / "other" / "script.py").write_text(script)
    launcher = start("print('runs')", "--ssh", f"{CLIENT} b={tmp_path / other}")
    told = said_by(launcher)
    assert launcher.returncode == 64, told
    assert said.replace("/no/folder", str(tmp_path)) in told
    assert "host a" not in told
    assert "runs" not in told


@pytest.mark.thorough
def test_a_python_that_hosts_lack_is_named(start: StartOnHosts) -> None:
    launcher = start("", "--python", "/no/python")
    assert "host b has no Python at /no/python" in said_by(launcher)
    assert launcher.returncode == 64


@pytest.mark.thorough
def test_a_dry_run_asks_the_hosts_and_starts_nothing(start: StartOnHosts) -> None:
    launcher = start("print('runs')", "--dry_run")
    said = said_by(launcher)
    assert launcher.returncode == 0, said
    assert said.count("TF_CONFIG=") == 2
    assert "runs" not in said


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
