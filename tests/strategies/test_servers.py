"""Workers and parameter servers end with their chief: well, badly, or started again meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfdist.cluster import Cluster, Task
from tfdist.machine.ports import Reservation

pytestmark = pytest.mark.timeout(150)
PROGRAM = str(Path(__file__).parent / "servers_program.py")
SOON = 5.0  # seconds


class Processes:
    """A chief, a worker and a ps, started without `tfdist run`; killed at the end."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, task: Task, end: str) -> None:
        """Starts a task; its output goes through a pipe into its log."""
        with (self.folder / f"{task.type}.log").open("ab") as log:
            self.running[str(task)] = subprocess.Popen(
                [sys.executable, PROGRAM, end],
                env={
                    **os.environ,
                    "TF_CONFIG": self.cluster.to_tf_config(task),
                    "TF_NUM_INTRAOP_THREADS": "1",
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )

    def start_all(self, end: str) -> None:
        for task in self.cluster.tasks:
            self.start(task, end)

    def said(self, job: str) -> str:
        return (self.folder / f"{job}.log").read_text(errors="replace")

    def codes(self) -> tuple[list[int], float]:
        """The exit codes, chief first, and how long after it the last one ended, in seconds."""
        chief, *servers = self.running.values()
        codes = [chief.wait(timeout=100)]
        ended = time.monotonic()
        codes += [server.wait(timeout=20) for server in servers]
        return codes, time.monotonic() - ended


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Reservation(3) as held:
        here = Processes(Cluster.local(1, 1, ports=held.ports), tmp_path)
        try:
            yield here
        finally:
            for process in here.running.values():
                process.kill()
                process.wait(timeout=10)


def test_the_servers_of_a_chief_that_ends_well_end_with_0(processes: Processes) -> None:
    processes.start_all("absl")
    codes, seconds = processes.codes()
    assert codes == [0, 0, 0], processes.said("worker")
    assert seconds < SOON
    assert "on worker:0: 262144.0\non ps:0: 262144.0\n" in processes.said("chief")


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("error", "ValueError: shapes differ"),
        pytest.param("refused", "PlugError: no such model", marks=pytest.mark.thorough),
    ],
)
def test_the_servers_of_a_chief_that_fails_end_with_75_and_say_why(
    end: str, why: str, processes: Processes
) -> None:
    processes.start_all(end)
    codes, seconds = processes.codes()
    assert codes == [1, 75, 75]
    assert seconds < SOON
    at = processes.cluster.address(processes.cluster.chief)
    for job in ("worker", "ps"):
        said = processes.said(job)
        assert f"TaskLost: chief:0 ({at}) has failed ({why}), " in said
        assert "this task ends with it" in said
        assert "Traceback" not in said


@pytest.mark.thorough
def test_the_servers_of_a_killed_chief_end_with_75(processes: Processes) -> None:
    processes.start_all("sleep")
    deadline = time.monotonic() + 100
    while not (processes.folder / "sleeps").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    processes.running["chief:0"].kill()
    codes, seconds = processes.codes()
    assert codes == [-9, 75, 75]
    assert seconds < SOON
    assert "closed its connection without a last word" in processes.said("ps")


def test_a_killed_worker_that_is_started_again_is_let_in(processes: Processes) -> None:
    processes.start_all("return")
    deadline = time.monotonic() + 100
    while "on ps:0" not in processes.said("chief"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    processes.running["worker:0"].kill()
    processes.running["worker:0"].wait()
    processes.start(Task("worker", 0), "return")
    codes, seconds = processes.codes()
    assert codes == [0, 0, 0]
    assert seconds < SOON
    assert "worker:0 is gone\n" in processes.said("chief")
    assert "worker:0 is back (process " in processes.said("chief")
