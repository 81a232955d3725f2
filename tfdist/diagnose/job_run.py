"""One run of a job that chaos disturbs: its launchers, here or on several hosts, and its tasks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import tfdist.launch.start
from tfdist.diagnose import job_processes
from tfdist.phases import FOLDER_VARIABLE

__all__ = ["STARTS", "JobRun"]

STARTS = 4
"""How often the job, or one of its launchers, is started in a round, at most."""

_AGAIN_SECONDS = 2.0  # after which a launcher that has failed is started again by itself
_TICK_SECONDS = 0.1


class JobRun:
    """Starts the launchers of a job, and sees them to their end.

    Args:
        commands: of each launcher, by the task that it runs; "launcher" where it runs them all.
        output: the file to which all of them write.
        phases: the folder in which the tasks tell their phases.

    Attributes:
        began: when the first start was, by the clock of `time.monotonic`.
        codes: the exit codes of all starts, by launcher.
    """

    def __init__(
        self, commands: Mapping[str, Sequence[object]], output: Path, phases: Path
    ) -> None:
        self._commands = commands
        self._output = output
        self._phases = phases
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ended_at: dict[str, float] = {}
        self._starts = 0
        self.began = time.monotonic()
        self.codes: dict[str, list[int]] = {name: [] for name in commands}

    def start(self) -> None:
        """Starts all launchers."""
        self._starts += 1
        for name in self._commands:
            self._start(name)

    @property
    def runs(self) -> bool:
        """Whether any launcher does."""
        return bool(self._running)

    @property
    def ended_well(self) -> bool:
        """Whether all launchers have, in their last start."""
        return not self._running and all(codes[-1:] == [0] for codes in self.codes.values())

    @property
    def may_start(self) -> bool:
        """Whether the job may be started once more."""
        return self._starts < STARTS

    def tasks(self) -> dict[str, int]:
        """The process ids of the tasks that run, by task, as "worker:1"."""
        found: dict[str, int] = {}
        for process in self._running.values():
            found |= job_processes.tasks_of(process.pid)
        return found

    def launcher_of(self, task: str) -> int | None:
        """The process id of the launcher of a task; None where it does not run."""
        process = self._running.get(task) or self._running.get("launcher")
        return None if process is None else process.pid

    def poll(self) -> None:
        """Looks which launchers have ended."""
        for name, process in list(self._running.items()):
            if (code := process.poll()) is not None:
                self.codes[name].append(code)
                self._ended_at[name] = time.monotonic()
                del self._running[name]

    def wait(self, limit: float, *, again: bool = False) -> bool:
        """Waits for the end of all launchers; one that does not come is brought about.

        Args:
            limit: seconds.
            again: whether a launcher that has failed is started again, while others run.

        Returns:
            Whether the end had to be brought about.
        """
        until = time.monotonic() + limit
        while self.runs and time.monotonic() < until:
            self.poll()
            for name in list(self._commands) if again and self.runs else ():
                self._start_again(name)
            time.sleep(_TICK_SECONDS)
        hung = self.runs
        self.kill()
        return hung

    def kill(self) -> None:
        """Ends the launchers at once; their guardians end the tasks."""
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.wait()
        self.poll()

    def _start_again(self, name: str) -> None:
        codes = self.codes[name]
        if name in self._running or not codes or not codes[-1] or len(codes) >= STARTS:
            return
        if time.monotonic() > self._ended_at[name] + _AGAIN_SECONDS:
            self._start(name)

    def _start(self, name: str) -> None:
        path = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self._output.open("ab") as output:
            self._running[name] = subprocess.Popen(
                [str(word) for word in self._commands[name]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._output.parent,
                env={**os.environ, "PYTHONPATH": path, FOLDER_VARIABLE: str(self._phases)},
                start_new_session=True,
            )


def tied(command: Sequence[object]) -> list[object]:
    """A command that the kernel ends with this process, however that comes about."""
    start = tfdist.launch.start.__file__
    return [sys.executable, "-I", "-S", start, os.getpid(), 0, *command]


def left_over(folder: Path, seconds: float) -> int:
    """How many processes are still at work in a folder, once they had time to end; then none is.

    Args:
        folder: the working directory of the run.
        seconds: for which they may go on.
    """
    until = time.monotonic() + seconds
    while (left := job_processes.at_work_in(folder)) and time.monotonic() < until:
        time.sleep(_TICK_SECONDS)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
    return len(left)
