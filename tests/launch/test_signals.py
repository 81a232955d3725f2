"""However the launcher is ended, its tasks end, and so does what they have started.

Each task here ignores SIGTERM, as TensorFlow does, and has a child that ignores it too, and another
child in a session of its own.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.support import is_alive, wait_until, write_script
from tfdist.launch.guardian import read_proc

pytestmark = pytest.mark.timeout(60)

FAMILY = """
    def stubborn(*_): print("asked to end", flush=True)
    signal.signal(signal.SIGTERM, stubborn)
    if "deaf" in sys.argv:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    pids = [os.getpid()]
    for escapes in (False, True):
        child = subprocess.Popen([sys.executable, "-c", code], start_new_session=escapes)
        pids.append(child.pid)
    with open(f"{name}.part", "w") as file: print(*pids, file=file)
    os.rename(f"{name}.part", f"{name}.pids")
    if "flood" in sys.argv:
        print("much\\n" * 100_000)
    while True: time.sleep(1)
"""


class Launcher:
    """`tfdist run` in a process of its own, with two families of processes below it."""

    def __init__(self, folder: Path, *arguments: str, prefix: str = "", grace: str = "1") -> None:
        script = write_script(folder, FAMILY)
        command = [sys.executable, "-m", "tfdist", "run", "--workers", "2", "--grace", grace]
        self.folder = folder
        self.process = subprocess.Popen(
            ["sh", "-c", f"{prefix} exec {shlex.join([*command, str(script), *arguments])}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            start_new_session=True,
        )
        files = [folder / f"worker:{n}.pids" for n in range(2)]
        wait_until(lambda: all(file.exists() for file in files))
        self.pids = [int(pid) for file in files for pid in file.read_text().split()]
        self.tasks = [int(file.read_text().split()[0]) for file in files]

    def send(self, signum: int) -> float:
        os.kill(self.process.pid, signum)
        return time.monotonic()

    def alive(self) -> list[int]:
        return [pid for pid in self.pids if is_alive(pid)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for file in tmp_path.glob("*.pids"):  # where a test has failed
        for pid in file.read_text().split():
            if is_alive(int(pid)):
                os.kill(int(pid), signal.SIGKILL)


def test_the_launcher_has_two_families_to_end(folder: Path) -> None:
    launcher = Launcher(folder)
    assert len(launcher.alive()) == 6
    launcher.send(signal.SIGTERM)
    launcher.process.communicate(timeout=10)


@pytest.mark.parametrize(
    ("signum", "code", "words"),
    [
        (signal.SIGINT, 130, "Ctrl-C: ending worker:0, worker:1 within 1 s; again to kill at once"),
        (signal.SIGTERM, 143, "SIGTERM: ending worker:0, worker:1 within 1 s"),
        (signal.SIGHUP, 129, "SIGHUP: ending worker:0, worker:1 within 1 s"),
    ],
)
def test_a_signal_to_the_launcher_ends_all(
    folder: Path, signum: int, code: int, words: str
) -> None:
    launcher = Launcher(folder, "deaf")
    sent = launcher.send(signum)
    out, _ = launcher.process.communicate(timeout=10)
    assert 0.9 < time.monotonic() - sent < 5
    assert launcher.process.returncode == code
    assert words in out
    assert out.count("asked to end") == 2
    assert f"exit code {code}" in out
    assert launcher.alive() == []


def test_ctrl_c_reaches_the_tasks_as_an_interrupt(folder: Path) -> None:
    launcher = Launcher(folder, grace="30")
    launcher.send(signal.SIGINT)
    out, _ = launcher.process.communicate(timeout=10)
    assert launcher.process.returncode == 130
    assert re.search(r"\[worker:0\] KeyboardInterrupt", out)
    assert "first failure" not in out
    assert launcher.alive() == []


def test_a_second_ctrl_c_kills_at_once(folder: Path) -> None:
    launcher = Launcher(folder, "deaf", grace="30")
    launcher.send(signal.SIGINT)
    time.sleep(0.2)
    sent = launcher.send(signal.SIGINT)
    launcher.process.communicate(timeout=10)
    assert time.monotonic() - sent < 3
    assert launcher.process.returncode == 130
    assert launcher.alive() == []


def test_a_second_ctrl_c_kills_even_if_nobody_reads_the_output(folder: Path) -> None:
    # A pager that nobody scrolls: the launcher is stuck in writing. The third time, it goes itself.
    launcher = Launcher(folder, "deaf", "flood", grace="30")
    time.sleep(0.3)
    for _ in range(2):
        launcher.send(signal.SIGINT)
        time.sleep(0.1)
    wait_until(lambda: not [pid for pid in launcher.tasks if is_alive(pid)], 5)
    launcher.send(signal.SIGINT)
    launcher.process.wait(5)
    assert launcher.process.returncode == 130
    wait_until(lambda: not launcher.alive(), 5)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_nothing_survives_a_launcher_that_was_killed(folder: Path) -> None:
    launcher = Launcher(folder, "deaf", grace="30")
    launcher.send(signal.SIGKILL)
    launcher.process.wait()
    wait_until(lambda: not launcher.alive(), 5)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_no_task_survives_even_if_the_guardian_was_killed_first(folder: Path) -> None:
    launcher = Launcher(folder, "deaf", grace="30")
    children = Path(f"/proc/{launcher.process.pid}/task/{launcher.process.pid}/children")
    guardians = [
        int(pid)
        for pid in children.read_text().split()
        if b"guardian.py" in read_proc(int(pid), "cmdline")
    ]
    assert len(guardians) == 1
    os.kill(guardians[0], signal.SIGKILL)
    launcher.send(signal.SIGKILL)
    launcher.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in launcher.tasks), 5)


def test_a_job_started_with_nohup_outlives_its_terminal(folder: Path) -> None:
    launcher = Launcher(folder, prefix="trap '' HUP;")
    launcher.send(signal.SIGHUP)
    time.sleep(0.5)
    assert launcher.process.poll() is None
    assert len(launcher.alive()) == 6
    launcher.send(signal.SIGTERM)
    launcher.process.communicate(timeout=10)
    assert launcher.process.returncode == 143
