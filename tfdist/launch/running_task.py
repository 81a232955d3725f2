"""A task that runs, as its launcher sees it, wherever that is: read, signalled, looked at.

Its life has three stages: `running`; then ended (`returncode` is known) while something that it
started may still be there; then `gone`.
"""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod

from tfdist.cluster import Task
from tfdist.launch.failure import TaskResult
from tfdist.launch.output import TaskLog
from tfdist.launch.plan import TaskPlan

__all__ = ["RunningTask"]

_PIPE_CHUNKS = 17  # as much as the largest pipe of an ordinary user holds (1 MiB)


class RunningTask(ABC):
    """A task's process group.

    Attributes:
        plan: What it runs.
        task: Which task.
        log: Takes its output.
        host: The name of its host; "" where it is this machine.
        pid: Its process id there, which is the process group's number too.
        returncode: Its exit code, -n where signal n ended it; None while it runs.
        gone: Whether nothing of it is left.
        stopped_for: Seconds, where we have ended it since it was stopped (SIGSTOP).
        signals: What we have sent while the process was running.
        remains: What it had left running when it ended by itself: process ids and commands.
        lost: Why it is cut off, and has ended so or as nobody knows; "" where it is not.
        started: When it was started, seconds since the epoch.
        ended: When it ended.
    """

    pid: int

    def __init__(self, plan: TaskPlan, log: TaskLog, host: str = "") -> None:
        self.plan = plan
        self.task: Task = plan.task
        self.name = str(plan.task)
        self.log = log
        self.host = host
        self.returncode: int | None = None
        self.gone = False
        self.stopped_for = 0.0
        self.signals: list[int] = []
        self.remains: dict[int, str] = {}
        self.lost = ""
        self.started = time.time()
        self.ended = 0.0

    @property
    def running(self) -> bool:
        """Whether the task itself has not ended."""
        return self.returncode is None

    @property
    def saves(self) -> bool:
        """Whether a signal would now have the job save, and end with exit code 75."""
        return self.running and self.shows_saves

    @property
    def dawdles(self) -> bool:
        """Whether it was asked to end, and does nothing that is worth waiting for."""
        return self.running and signal.SIGKILL not in self.signals and not self.shows_writes

    @property
    @abstractmethod
    def shows_saves(self) -> bool:
        """Whether it shows that it would save."""

    @property
    @abstractmethod
    def shows_writes(self) -> bool:
        """Whether it shows that it writes a checkpoint."""

    @property
    @abstractmethod
    def is_stopped(self) -> bool:
        """Whether it is stopped (SIGSTOP), where the system tells."""

    @property
    def holds_output(self) -> bool:
        """Whether output has been taken from the pipe and waits to be read."""
        return False

    @property
    @abstractmethod
    def pipe(self) -> int | None:
        """File descriptor to wait on for output; None when the output has ended."""

    @abstractmethod
    def read(self) -> bytes:
        """The output that has come since, b"" where there is none now; logs it."""

    def read_progress(self) -> bytes:
        """What it has told of its progress since, b"" where there is nothing; see `progress`."""
        return b""

    @abstractmethod
    def send(self, signum: int) -> None:
        """Sends a signal to the task and to all of its group."""

    @abstractmethod
    def ask_to_end(self) -> None:
        """Has the task save, and with it the job, and end; what it has started is left alone."""

    @abstractmethod
    def poll(self) -> bool:
        """Looks whether the task has ended; returns whether nothing of it is left."""

    @abstractmethod
    def close(self) -> bytes:
        """Gives back what is held once the task is gone; returns the last of its output."""

    def drain(self) -> bytes:
        """All output that is there now, at most what a pipe holds; logs it."""
        data = b""
        for _ in range(_PIPE_CHUNKS):
            chunk = self.read()
            data += chunk
            if not chunk:
                break
        return data

    def result(self) -> TaskResult:
        """How it has ended; once its return code is known."""
        assert self.returncode is not None
        return TaskResult(
            self.task,
            self.returncode,
            self.log.path,
            self.started,
            self.ended,
            stopped=bool(self.signals) and not self.stopped_for and not self.lost,
            log_start=self.log.start,
            stood_still=self.stopped_for,
            host=self.host,
            lost=self.lost,
        )
