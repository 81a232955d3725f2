"""Nothing outlives the launcher: the guardian, and the tie between a task and its parent."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.support import is_alive, wait_until
from tfdist.launch import guardian, start
from tfdist.launch.guardian import JOB_VARIABLE, Guardian, marked_processes

linux = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def group(mark: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process group that ignores SIGTERM, as TensorFlow does."""
    environ = {**os.environ, JOB_VARIABLE: mark}
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], start_new_session=True, env=environ
    )
    yield process
    process.kill()
    process.wait()


def test_a_group_ends_when_the_pipe_does(group: subprocess.Popen[bytes]) -> None:
    with Guardian("another job") as watching:
        watching.watch(group.pid)
        assert group.poll() is None
    assert group.wait(5) == -signal.SIGKILL


def test_a_group_that_was_forgotten_is_left_alone(group: subprocess.Popen[bytes]) -> None:
    with Guardian("another job") as watching:
        watching.watch(group.pid)
        watching.forget(group.pid)
    assert group.poll() is None


@linux
def test_a_process_that_left_its_group_is_found_by_its_mark(
    group: subprocess.Popen[bytes], mark: str
) -> None:
    wait_until(lambda: marked_processes(mark) == [group.pid])  # its environment comes with exec
    Guardian(mark).close()
    assert group.wait(5) == -signal.SIGKILL


def test_signals_do_not_end_the_guardian(group: subprocess.Popen[bytes]) -> None:
    with Guardian("another job") as watching:
        watching.watch(group.pid)
        wait_until(lambda: not is_alive(watching.pid) or _is_deaf(watching.pid))
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(watching.pid, signum)
        assert is_alive(watching.pid)
    assert group.wait(5) == -signal.SIGKILL


def test_the_guardian_also_notices_that_the_launcher_is_not_its_parent(
    group: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pipe stays open, as when another process has inherited a copy of its write end.
    monkeypatch.setattr(guardian, "_PARENT_CHECK_SECONDS", 0.1)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    reading, writing = os.pipe()
    os.write(writing, f"+{group.pid}\n".encode())
    guardian.guard("no such job", launcher=-1, pipe=reading)
    os.close(reading)
    os.close(writing)
    assert group.wait(5) == -signal.SIGKILL


def test_losing_the_guardian_is_no_error() -> None:
    with Guardian("no such job") as watching:
        os.kill(watching.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(watching.pid))
        watching.watch(1 << 30)


def test_a_task_whose_launcher_has_already_ended_does_not_start() -> None:
    command = [sys.executable, "-I", "-S", start.__file__, "-1", "0", "echo", "1"]
    ran = subprocess.run(command, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (143, b"")


def test_a_program_that_cannot_be_started_says_so() -> None:
    start_it = [sys.executable, "-I", "-S", start.__file__, str(os.getpid()), "0"]
    command = [*start_it, "/no/such/program"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 127
    assert ran.stderr == "cannot start '/no/such/program': No such file or directory\n"


def test_a_task_starts_with_the_signals_as_they_are_by_default() -> None:
    # Python ignores SIGPIPE for itself; a shell tells whether that was handed on.
    command = [sys.executable, "-I", "-S", start.__file__, str(os.getpid()), "0", "sh", "-c"]
    ran = subprocess.run(
        [*command, "kill -PIPE $$; echo ignored"], check=False, capture_output=True
    )
    assert (ran.returncode, ran.stdout) == (-signal.SIGPIPE, b"")


def _is_deaf(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return True
    ignored = next(x for x in status.read_text().splitlines() if x.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) >> (signal.SIGHUP - 1) & 1)
