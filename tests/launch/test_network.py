"""A local job has a network of its own, which no other host reaches."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.launch.processes import (
    children_of,
    command,
    in_network,
    is_reached,
    listening_of,
    tasks_of,
)
from tests.launch.support import run_script, wait_until, write_script
from tfdist.cluster import Cluster, Task
from tfdist.errors import ClusterError
from tfdist.launch import make_plan, network
from tfdist.launch.guardian import Guardian

pytestmark = pytest.mark.timeout(60)

NAMESPACE = ROOT / "tfdist" / "launch" / "namespace.py"


def why_not(*way_out: str) -> str:
    """Why this system allows no network of a job's own; "" where it does."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", NAMESPACE, "", "", *way_out],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        told = keeper.stdout.readline()
        keeper.stdin.close()
    return "" if told.startswith("ready ") else told.strip()


NO_NAMESPACE = why_not()
needs_namespace = pytest.mark.skipif(bool(NO_NAMESPACE), reason=f"no namespace: {NO_NAMESPACE}")

LISTEN = """
import socket
workers = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
ports = [int(at.rpartition(":")[2]) for at in workers]
server = socket.create_server(("0.0.0.0", ports[task["index"]]))
print("listens", flush=True)
for port in ports:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
    else:
        sys.exit(f"{port} is not reached from inside")
"""
"""Each task listens on all interfaces, as TensorFlow does, and reaches the others."""


@needs_namespace
def test_tasks_share_a_network_that_is_not_the_launchers(tmp_path: Path) -> None:
    body = (
        LISTEN
        + """
names = [name for _, name in socket.if_nameindex()]
facts = dict(net=os.readlink("/proc/self/ns/net"), names=names, user=os.getuid(),
             group=os.getgid(), groups=os.getgroups(), folder=os.getcwd(),
             input=sys.stdin.read(), shared=os.path.isdir("/dev/shm"))
open(sys.argv[1] + str(task["index"]), "w").write(json.dumps(facts))
time.sleep(0.5)  # until the launcher has seen that they listen
"""
    )
    ran = run_script(tmp_path, body, str(tmp_path / "facts"), isolate="on")
    assert ran.result.returncode == 0, ran.out
    assert "a network of their own, where no other host reaches them, and they reach no" in ran.err
    assert ran.result.alone == ()  # it looks into their network
    facts = [json.loads((tmp_path / f"facts{n}").read_text()) for n in (0, 1)]
    assert facts[0] == facts[1]
    assert facts[0]["net"] != os.readlink("/proc/self/ns/net")
    assert facts[0]["names"] == ["lo"]
    assert facts[0]["user"] == os.getuid()
    assert facts[0]["group"] == os.getgid()
    assert facts[0]["folder"] == os.getcwd()
    assert facts[0]["input"] == ""
    owner = (tmp_path / "facts0").stat()
    assert (owner.st_uid, owner.st_gid) == (os.getuid(), os.getgid())


@needs_namespace
@pytest.mark.parametrize("how", ["on", "off"])
def test_a_port_of_an_isolated_job_is_not_this_machines(tmp_path: Path, how: str) -> None:
    script = write_script(tmp_path, LISTEN + "\ntime.sleep(30)\n")
    with job(tmp_path, "--isolate", how, str(script)) as launcher:
        logs = wait_for_both(tmp_path)
        ports = {int(line[-5:]) for line in listening_of(tasks_of(launcher))}
        assert len(ports) == 2, logs
        assert {port: is_reached(port) for port in ports} == dict.fromkeys(ports, how == "off")


@needs_namespace
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_of_the_network_outlives_the_launcher(tmp_path: Path, signum: int) -> None:
    script = write_script(tmp_path, LISTEN + "\ntime.sleep(30)\n")
    with job(tmp_path, "--isolate", "on", "--grace", "0.5", str(script)) as launcher:
        wait_for_both(tmp_path)
        inside = tasks_of(launcher)
        space = os.readlink(f"/proc/{inside[0]}/ns/net")
        assert len(in_network(space)) == 3  # the tasks, and the one who keeps it
        launcher.send_signal(signum)
        launcher.wait(20)
        wait_until(lambda: not in_network(space), 5)


def test_the_guardian_is_not_needed_for_that(tmp_path: Path) -> None:
    if NO_NAMESPACE:
        pytest.skip(NO_NAMESPACE)
    script = write_script(tmp_path, LISTEN + "\ntime.sleep(30)\n")
    with job(tmp_path, "--isolate", "on", str(script)) as launcher:
        wait_for_both(tmp_path)
        space = os.readlink(f"/proc/{tasks_of(launcher)[0]}/ns/net")
        guardian = next(pid for pid in children_of(launcher.pid) if "guardian.py" in command(pid))
        os.kill(guardian, signal.SIGKILL)
        launcher.kill()
        launcher.wait(20)
        wait_until(lambda: not in_network(space), 5)


@needs_namespace
def test_a_restarted_task_comes_into_the_same_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body = f"""
    with open({str(tmp_path / "spaces")!r}, "a") as file:
        file.write(os.readlink("/proc/self/ns/net") + "\\n")
    sys.exit(1 if not os.path.exists(name) and not open(name, "w").close() else 0)
    """
    ran = run_script(tmp_path, body, isolate="on", max_restarts=2)
    assert ran.result.returncode == 0, ran.err
    assert ran.result.restarts >= 1
    spaces = (tmp_path / "spaces").read_text().split()
    assert len(spaces) > 2
    assert len(set(spaces)) == 1


def test_a_job_that_cannot_be_isolated_is_refused_where_it_must_be(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("")
    cluster = Cluster({"worker": ("10.0.0.1:2222", "10.0.0.2:2222")})
    plan = make_plan(["script.py"], cluster, tasks=[Task("worker", 0)])
    with (
        Guardian("none") as guardian,
        pytest.raises(ClusterError) as caught,
        network.network_for(plan, "on", guardian, print),
    ):
        pass
    assert str(caught.value) == (
        "--isolate on for a job with worker:0 at 10.0.0.1:2222, which is no address of the "
        "loopback; leave it out"
    )
    local = make_plan(
        ["script.py"], Cluster.local(2, ports=(4001, 4002)), tasks=[Task("worker", 0)]
    )
    with (
        Guardian("none") as guardian,
        pytest.raises(ClusterError, match="a job with worker:1, which is not started here; leave"),
        network.network_for(local, "on", guardian, print),
    ):
        pass


def test_a_way_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="isolate='yes'; give one of auto, on, off"):
        run_script(tmp_path, "", isolate="yes")


def warnings_of(ran_err: str) -> list[str]:
    return [line for line in ran_err.splitlines() if "OTHER HOSTS" in line]


def test_who_is_not_isolated_is_warned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "outer_addresses", lambda: ["192.0.2.7", "192.0.2.8"])
    monkeypatch.setattr(network, "name_servers", lambda: ["192.0.2.53"])
    monkeypatch.setenv("PATH", str(tmp_path))  # none of the programs is there
    (line,) = warnings_of(run_script(tmp_path, "", max_restarts=1).err)
    assert "reach this job's TensorFlow servers at 192.0.2.7 and 1 more, and they let in" in line
    assert " is not installed; install it, or give --isolate on where the script needs no" in line
    assert warnings_of(run_script(tmp_path, "", isolate="off").err) == []
    assert warnings_of(run_script(tmp_path, "", counts={"workers": 1}).err) == []
    monkeypatch.setattr(network, "name_servers", lambda: ["127.0.0.53"])
    (line,) = warnings_of(run_script(tmp_path, "").err)
    assert "as the name server, 127.0.0.53, would be out of reach in it; " in line
    monkeypatch.setattr(network, "outer_addresses", list)
    assert warnings_of(run_script(tmp_path, "").err) == []


def why_not_auto() -> str:
    """Why a job of this machine would not be isolated by default; "" where it would."""
    try:
        return why_not(*network._way_out())
    except network.NotAllowed as error:
        return str(error)


def test_with_a_way_out_an_isolated_job_reaches_the_network(tmp_path: Path) -> None:
    """Found where the programs are installed; CI has none of them."""
    if why_not_auto():
        pytest.skip(why_not_auto())
    body = LISTEN + "open(sys.argv[1], 'a').write(open('/proc/net/route').read())\ntime.sleep(1)"
    ran = run_script(tmp_path, body, str(tmp_path / "routes"), isolate="auto")
    assert ran.result.returncode == 0, ran.out
    assert warnings_of(ran.err) == []
    assert (
        f"where no other host reaches them; they reach others by {network._way_out()[0]}" in ran.err
    )
    assert "00000000" in (tmp_path / "routes").read_text()  # a default route


def test_logs_are_their_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0)
    try:
        ran = run_script(tmp_path, "print('private')", log_dir=None)
    finally:
        os.umask(before)
    log_dir = tmp_path / ran.result.log_dir
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (log_dir, log_dir.parent)}
    assert set(modes.values()) == {0o700}
    assert {stat.S_IMODE(log.stat().st_mode) for log in log_dir.iterdir()} == {0o600}


# ---------------------------------------------------------------- two hosts

needs_hosts = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None or bool(NO_NAMESPACE),
    reason="only root can make hosts",
)
SCAN = """
import asyncio, sys
async def reached(port):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(sys.argv[1], port), 2)
    except (OSError, asyncio.TimeoutError):
        return None
    writer.close()
    return port
async def main():
    found = []
    for start in range(1, 65536, 500):
        found += await asyncio.gather(*map(reached, range(start, min(start + 500, 65536))))
    print([port for port in found if port])
asyncio.run(main())
"""


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two hosts on one wire, as network namespaces; the first is 10.99.7.1."""
    mark = secrets.token_hex(3)
    names = (f"tfd{mark}a", f"tfd{mark}b")

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, timeout=20)

    try:
        for name in names:
            ip("netns", "add", name)
        ends = f"e{mark}a netns {names[0]} type veth peer name e{mark}b netns {names[1]}"
        ip("link", "add", *ends.split())
        for number, (name, end) in enumerate(zip(names, "ab", strict=True), 1):
            ip("-n", name, "addr", "add", f"10.99.7.{number}/24", "dev", f"e{mark}{end}")
            ip("-n", name, "link", "set", f"e{mark}{end}", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], timeout=20)


TRAIN = """
import numpy as np
import keras
import tfdist
strategy = tfdist.strategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
tfdist.plug(model)
class Tell(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print("listens", flush=True)
        time.sleep(0.05)
model.fit(np.ones((64, 4)), np.ones((64, 1)), epochs=600, verbose=0, callbacks=[Tell()])
"""


@needs_hosts
@pytest.mark.parametrize(
    ("how", "body"),
    [
        ("on", LISTEN + "\ntime.sleep(60)\n"),
        ("auto", LISTEN + "\ntime.sleep(60)\n"),
        ("off", LISTEN + "\ntime.sleep(60)\n"),
        pytest.param("on", TRAIN, marks=pytest.mark.thorough),
        pytest.param("off", TRAIN, marks=pytest.mark.thorough),
    ],
    ids=["listens-on", "listens-auto", "listens-off", "trains-on", "trains-off"],
)
def test_a_second_host_reaches_nothing_of_an_isolated_job(
    tmp_path: Path, hosts: tuple[str, str], how: str, body: str
) -> None:
    if how == "auto" and why_not_auto():
        pytest.skip(why_not_auto())
    script = write_script(tmp_path, body)
    on_host = ("ip", "netns", "exec", hosts[0])
    with job(tmp_path, "--isolate", how, str(script), before=on_host) as launcher:
        wait_for_both(tmp_path)
        ports = {int(line[-5:]) for line in listening_of(tasks_of(launcher))}
        scan = subprocess.run(
            ["ip", "netns", "exec", hosts[1], sys.executable, "-c", SCAN, "10.99.7.1"],
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        )
        assert len(ports) >= 2
        assert len(tasks_of(launcher)) == 2  # they still run
    assert set(json.loads(scan.stdout)) == (ports if how == "off" else set())


# ---------------------------------------------------------------- looking at a job from outside


@contextlib.contextmanager
def job(
    folder: Path, *arguments: str, before: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A launcher of two workers, as a process; killed at the end."""
    run = [sys.executable, "-m", "tfdist", "run", "--workers", "2", "--log_dir", "logs"]
    launcher = subprocess.Popen(
        [*before, *run, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield launcher
    finally:
        launcher.kill()
        launcher.wait(10)


def wait_for_both(folder: Path) -> str:
    """Waits until both workers listen."""
    logs = [folder / "logs" / f"worker-{number}.log" for number in (0, 1)]
    wait_until(lambda: all(log.exists() and "listens" in log.read_text() for log in logs), 40)
    return "".join(log.read_text() for log in logs)
