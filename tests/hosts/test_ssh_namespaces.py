"""Jobs over SSH to hosts with cables that can be pulled; the launcher is at a third host."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import RunJob
from tests.hosts.ssh_hosts import SshHosts, missing_programs
from tests.launch.support import is_alive, wait_until, write_script
from tfdist.diagnose.namespace_hosts import Hosts, reason_against

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(280)]
TRAIN = Path(__file__).parent / "regression.py"
WAIT = "open(name, 'w').write(str(os.getpid())); print('waits', flush=True); time.sleep(200)"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hosts, SshHosts]]:
    reason = missing_programs() or reason_against()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("ssh")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with Hosts(3) as hosts:
        ssh = SshHosts(folder, dict(zip(("a", "b"), hosts.addresses[1:], strict=True)), 2222)
        try:
            ssh.write_keys()
            ssh.write_config()
            for number in (1, 2):
                ssh.serve([str(word) for word in hosts.on(number, [])])
            yield hosts, ssh
        finally:
            ssh.close()


@contextlib.contextmanager
def launched(
    network: tuple[Hosts, SshHosts], folder: Path, *options: object
) -> Iterator[subprocess.Popen[str]]:
    hosts, ssh = network
    command = [sys.executable, "-m", "tfdist", "run", "--hosts", "a,b", "--grace", "3", *options]
    launcher = subprocess.Popen(
        [str(word) for word in hosts.on(0, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, "TFDIST_SSH": ssh.ssh},
        start_new_session=True,
    )
    try:
        yield launcher
    finally:
        launcher.kill()
        launcher.communicate(timeout=30)


def test_two_hosts_train_to_the_weights_of_two_workers_of_one(
    network: tuple[Hosts, SshHosts], tmp_path: Path, run_job: RunJob
) -> None:
    with launched(network, tmp_path, TRAIN, tmp_path / "hosts", 3, "") as launcher:
        said = launcher.communicate(timeout=120)[0]
    assert launcher.returncode == 0, said
    here = run_job(["--workers", 2, "--isolate", "off", TRAIN, tmp_path / "here", 3, ""])
    assert here.returncode == 0, here.stderr
    both = [np.load(tmp_path / f"{name}.npz") for name in ("hosts", "here")]
    assert len(both[0].files) == 4
    for name in both[0].files:
        np.testing.assert_array_equal(both[0][name], both[1][name])


def test_a_host_that_is_cut_off_is_named_and_the_job_ends(
    network: tuple[Hosts, SshHosts], tmp_path: Path
) -> None:
    hosts, _ = network
    with launched(network, tmp_path, write_script(tmp_path, WAIT)) as launcher:
        tasks = tasks_in(tmp_path)
        hosts.cut(2)
        try:
            cut = time.monotonic()
            said = launcher.communicate(timeout=60)[0]
            seconds = time.monotonic() - cut
            assert launcher.returncode == 75, said
            assert "the first failure: worker:1 on b was lost: the connection to its " in said
            assert "Timeout, server 10.78.0.3 not responding" in said
            assert seconds < 30
            assert not is_alive(tasks[0])
            # Nobody reaches it; it ends its task by itself, as it hears nothing of its launcher.
            wait_until(lambda: not is_alive(tasks[1]), 90)
        finally:
            hosts.mend(2)


def test_a_training_whose_launcher_is_cut_off_saves_and_ends(
    network: tuple[Hosts, SshHosts], tmp_path: Path
) -> None:
    """What it has learnt until then is not lost: the next job goes on with it."""
    hosts, _ = network
    folder = tmp_path / "checkpoints"
    with launched(network, tmp_path, TRAIN, tmp_path / "w", 100_000, folder) as launcher:
        wait_until(lambda: list(folder.glob("*")), 120)
        (log,) = tmp_path.glob("tfdist_logs/*/worker-0.log")
        tasks = [int(path.name) for path in Path("/proc").glob("[0-9]*") if is_training(path)]
        assert len(tasks) == 2, log.read_text()
        hosts.cut(0)
        try:
            said = launcher.communicate(timeout=60)[0]
            assert launcher.returncode == 75, said
            wait_until(lambda: not any(map(is_alive, tasks)), 110)
        finally:
            hosts.mend(0)
    with launched(network, tmp_path, TRAIN, tmp_path / "w", 1, folder) as launcher:
        said = launcher.communicate(timeout=120)[0]
    assert launcher.returncode == 0, said
    assert "goes on" in said or "resum" in said, said


def is_training(path: Path) -> bool:
    with contextlib.suppress(OSError):
        words = (path / "cmdline").read_bytes().split(b"\0")
        return len(words) > 1 and words[1] == os.fsencode(TRAIN)
    return False


def tasks_in(folder: Path) -> list[int]:
    def found() -> list[int]:
        texts = [path.read_text() for path in sorted(folder.glob("worker:*"))]
        return [int(text) for text in texts if text]

    return list(wait_until(lambda: found() if len(found()) == 2 else None, 30))
