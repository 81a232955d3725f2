"""The same command several times: the launchers meet, and each runs its part of one job."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import RunJob
from tests.hosts.local_client import CLIENT
from tests.launch.support import wait_until, write_script
from tests.machine.nvidia_smi import FIRST, SECOND, TWO, put_on_path
from tfdist.diagnose.namespace_hosts import Hosts, reason_against

pytestmark = pytest.mark.timeout(60)
TRAIN = Path(__file__).parent / "regression.py"


@contextlib.contextmanager
def launcher(
    folder: Path,
    *options: object,
    before: Sequence[object] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    folder.mkdir(exist_ok=True)
    command = [*before, sys.executable, "-m", "tfdist", "run", "--grace", "1", *options]
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def run_both(
    folder: Path,
    first: Sequence[object],
    second: Sequence[object],
    timeout: float = 50,
    **more: str,
) -> list[tuple[int, str]]:
    """Runs two launchers, each in a folder of its own; returns exit codes and what they said."""
    place = ["--rendezvous", f"127.0.0.1:{free_port()}"]
    env = more or None
    with (
        launcher(folder / "one", *place, *first) as one,
        launcher(folder / "two", *place, *second, env=env) as two,
    ):
        said = [each.communicate(timeout=50)[0] for each in (one, two)]
        return [(one.returncode, said[0]), (two.returncode, said[1])]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_each_runs_its_part_of_one_job(tmp_path: Path) -> None:
    script = write_script(tmp_path, 'print("config", os.environ["TF_CONFIG"])')
    given = ["--nnodes", 2, "--workers", 2, script]
    ran = run_both(tmp_path, given, given)
    assert [code for code, _ in ran] == [0, 0], ran
    lines = [line.partition("config ")[2] for _, said in ran for line in said.splitlines()]
    configs = [json.loads(line) for line in lines if line]
    assert sorted(config["task"]["index"] for config in configs) == [0, 1, 2, 3]
    addresses = configs[0]["cluster"]["worker"]
    assert all(config["cluster"] == configs[0]["cluster"] for config in configs)
    assert len(set(addresses)) == 4
    (leads,) = [said for _, said in ran if "for 2 nodes, this one among them" in said]
    assert "starting worker:0, worker:1 (" in leads


def test_who_was_started_otherwise_ends_both_with_its_name(tmp_path: Path) -> None:
    script = write_script(tmp_path, 'print("runs")')
    ran = run_both(tmp_path, ["--nnodes", 2, script], ["--nnodes", 3, script])
    assert [code for code, _ in ran] == [64, 64], ran
    for _, said in ran:
        assert "was started with --nnodes " in said
        assert "give the same command on every host" in said
        assert "runs" not in said


@pytest.mark.thorough
def test_who_is_missing_is_said_at_the_deadline(tmp_path: Path) -> None:
    script = write_script(tmp_path, 'print("runs")')
    given = ["--nnodes", 3, "--rendezvous_timeout", 3, script]
    ran = run_both(tmp_path, given, given)
    assert [code for code, _ in ran] == [69, 69], ran
    for _, said in ran:
        assert "1 node is missing after 3 s at 127.0.0.1:" in said
        assert "2 of 3 nodes: " in said


@pytest.mark.thorough
def test_who_knows_no_secret_does_not_get_in(tmp_path: Path) -> None:
    script = write_script(tmp_path, 'print("runs")')
    given = ["--nnodes", 2, "--rendezvous_timeout", 4, script]
    ran = run_both(tmp_path, given, given, TFDIST_SECRET="0123456789abcdef")
    assert sorted(code for code, _ in ran) == [64, 69], ran
    assert any("give every task the same TFDIST_SECRET" in said for _, said in ran)


@pytest.mark.thorough
def test_who_has_gone_again_is_waited_for(tmp_path: Path) -> None:
    script = write_script(tmp_path, 'print("runs")')
    given = ["--rendezvous", f"127.0.0.1:{free_port()}", "--nnodes", 3, script]
    with launcher(tmp_path / "one", *given) as one:
        assert one.stdout is not None
        assert "waiting at" in one.stdout.readline()
        with launcher(tmp_path / "two", *given):
            assert "is here, 2 nodes" in one.stdout.readline()
        assert "has gone again" in one.stdout.readline()
        with (
            launcher(tmp_path / "two", *given) as two,
            launcher(tmp_path / "three", *given) as last,
        ):
            said = [each.communicate(timeout=30)[0] for each in (one, two, last)]
            assert [each.returncode for each in (one, two, last)] == [0, 0, 0], said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--nnodes", "2"], "--nnodes without --rendezvous"),
        (["--rendezvous", "a:1"], "--rendezvous without --nnodes"),
        (["--rendezvous", "a:1", "--nnodes", "2", "--hosts", "a"], "--rendezvous with --hosts"),
        (["--rendezvous", "a:1", "--nnodes", "2", "--workers", "1:2"], "a range of --workers"),
        (["--rendezvous", "a:1", "--nnodes", "2", "--dry_run"], "--dry_run with --rendezvous"),
        (["--rendezvous", "a:1", "--nnodes", "2", "--isolate", "on"], "--isolate on with --rend"),
        (["--rendezvous", "a", "--nnodes", "2"], "address 'a' without a port"),
        (["--ssh", "ssh"], "--ssh without --hosts"),
        (["--hosts", "a", "--cluster", "c.json"], "--hosts with --cluster"),
        (["--hosts", "a", "--isolate", "on"], "--isolate on with --hosts"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    from tfdist import cli

    assert cli.main(["run", *options, __file__]) == 64
    assert said in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.timeout(240)
def test_two_hosts_train_to_the_weights_of_two_workers_of_one(
    tmp_path: Path, run_job: RunJob
) -> None:
    if reason := reason_against():
        pytest.skip(reason)
    with Hosts(2) as hosts:
        given = ["--rendezvous", f"{hosts.addresses[0]}:29400", "--nnodes", 2, TRAIN]
        given += [tmp_path / "hosts", 3, ""]
        with (
            launcher(tmp_path / "two", *given, before=hosts.on(1, [])) as two,
            launcher(tmp_path / "one", *given, before=hosts.on(0, [])) as one,
        ):
            said = [each.communicate(timeout=150)[0] for each in (one, two)]
            assert (one.returncode, two.returncode) == (0, 0), said
    here = run_job(["--workers", 2, "--isolate", "off", TRAIN, tmp_path / "here", 3, ""])
    assert here.returncode == 0, here.stderr
    both = [np.load(tmp_path / f"{name}.npz") for name in ("hosts", "here")]
    assert len(both[0].files) == 4
    for name in both[0].files:
        np.testing.assert_array_equal(both[0][name], both[1][name])


@pytest.mark.thorough
def test_nodes_decide_together_about_restarts(tmp_path: Path) -> None:
    body = """
        if name == "worker:1" and not os.path.exists("failed"):
            open("failed", "w").close()
            sys.exit(3)
        time.sleep(1)
        print("ends well")
    """
    given = ["--nnodes", 2, "--max_restarts", 1, write_script(tmp_path, body)]
    ran = run_both(tmp_path, given, given)
    assert [code for code, _ in ran] == [0, 0], ran
    assert all("ends well" in said for _, said in ran)
    assert any("starting all tasks again (1 of 1)" in said for _, said in ran)


@pytest.mark.thorough
def test_ctrl_c_while_waiting_ends_at_once(tmp_path: Path) -> None:
    script = write_script(tmp_path, "")
    with launcher(
        tmp_path, "--rendezvous", f"127.0.0.1:{free_port()}", "--nnodes", 2, script
    ) as one:
        assert one.stdout is not None
        assert "waiting at" in one.stdout.readline()
        began = time.monotonic()
        one.send_signal(signal.SIGINT)
        wait_until(lambda: one.poll() is not None, 5)
        assert one.returncode == 130
        assert time.monotonic() < began + 3


def test_each_hosts_gpus_are_shared_out_among_its_own_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two hosts have two cards each; a dry run asks both and starts nothing."""
    from tfdist import cli

    put_on_path(tmp_path, monkeypatch, TWO)
    monkeypatch.setenv("TFDIST_SSH", CLIENT)
    for seen, *given in (
        (f"{FIRST},{SECOND}", "--gpus_per_task", "2"),
        (FIRST, "--gpus_per_task", "1"),
        (SECOND, "--env", "CUDA_VISIBLE_DEVICES=1"),
    ):
        options = ["--hosts", "a,b", *given, "--dry_run"]
        assert cli.main(["run", *options, __file__]) == 0
        assert capsys.readouterr().out.count(f"CUDA_VISIBLE_DEVICES={seen} ") == 2
