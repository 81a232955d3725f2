"""One task's process, and all that it starts: a process group that is started, read and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tfdist.cluster import Task
from tfdist.errors import LaunchError
from tfdist.launch.failure import TaskResult
from tfdist.launch.guardian import (
    Guardian,
    command_of,
    end_group,
    group_is_alive,
    group_members,
)
from tfdist.launch.output import TaskLog
from tfdist.launch.plan import TaskPlan
from tfdist.process import SAVES_VARIABLE, WRITES_SUFFIX

__all__ = ["REMAINS_SECONDS", "Starter", "TaskProcess"]

REMAINS_SECONDS = 1.0
"""What a task has started may go on for so long after the task has ended; then it is killed."""

_KILLED_SECONDS = 2.0  # a killed group that is still there then is zombies that nobody collects
_CHUNK = 1 << 16
_PIPE_CHUNKS = 17  # as much as the largest pipe of an ordinary user holds (1 MiB)


class TaskProcess:
    """A task's process group.

    The process is the leader of its own session and process group, so that the terminal's Ctrl-C
    reaches only the launcher, and so that one signal reaches whatever the task has started. Its
    standard input is empty; standard output and error are one pipe, which keeps their order.

    Its life has three stages: `running`; then ended (`returncode` is known) while something that it
    started may still be there; then `gone`.
    """

    def __init__(
        self,
        plan: TaskPlan,
        log: Path,
        environ: Mapping[str, str],
        *,
        again: bool = False,
        insider: int | None = None,
    ) -> None:
        """Starts the process.

        Args:
            plan: What to run.
            log: The file for its output.
            environ: All environment variables of the process.
            again: Whether the task ran before, so that its log goes on.
            insider: A process in the job's own network; None where it has none.

        Raises:
            LaunchError: The log cannot be written or the process cannot be started.
        """
        self.plan = plan
        self.task: Task = plan.task
        self.name = str(plan.task)
        self.returncode: int | None = None
        self.gone = False
        self.stopped_for = 0.0  # seconds, where we have ended it since it was stopped (SIGSTOP)
        self.signals: list[int] = []  # what we have sent, while the process was running
        self.remains: dict[int, str] = {}  # what it had left running when it ended by itself
        self.started = time.time()
        self.ended = 0.0
        self._remains_until = 0.0
        self._killed_at = 0.0
        self._sign = log.with_name(f".{log.stem}.saves")
        self._writing = log.with_name(self._sign.name + WRITES_SUFFIX)
        for sign in (self._sign, self._writing):
            sign.unlink(missing_ok=True)
        start = os.path.join(os.path.dirname(__file__), "start.py")
        ids = (str(os.getpid()), str(insider or 0))
        try:
            self.log = TaskLog(log, append=again)
        except OSError as error:
            raise LaunchError(f"the log {log} cannot be written: {error.strerror}") from None
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", start, *ids, *plan.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**environ, SAVES_VARIABLE: str(self._sign.absolute())},
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self.log.close()
            raise LaunchError(f"{self.name} cannot be started: {error.strerror}") from None
        assert self._process.stdout is not None
        self._pipe: int | None = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)

    @property
    def pid(self) -> int:
        """The process id, which is the process group's number too."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the task itself has not ended."""
        return self.returncode is None

    @property
    def saves(self) -> bool:
        """Whether a signal would now have the job save, and end with exit code 75."""
        return self.running and self._sign.exists()

    @property
    def dawdles(self) -> bool:
        """Whether it was asked to end, and does nothing that is worth waiting for."""
        killed = signal.SIGKILL in self.signals
        return self.running and not killed and not self._writing.exists()

    @property
    def pipe(self) -> int | None:
        """File descriptor to wait on for output; None when the output has ended."""
        return self._pipe

    def read(self) -> bytes:
        """The output that has come since, b"" where there is none now; logs it."""
        if self._pipe is None:
            return b""
        try:
            data = os.read(self._pipe, _CHUNK)
        except BlockingIOError:
            return b""
        if data:
            self.log.write(data)
        else:
            self._close_pipe()
        return data

    def drain(self) -> bytes:
        """All output that is there now, at most what a pipe holds; logs it."""
        data = b""
        for _ in range(_PIPE_CHUNKS):
            chunk = self.read()
            data += chunk
            if not chunk:
                break
        return data

    def send(self, signum: int) -> None:
        """Sends a signal to the task and to all of its group."""
        if self.gone:
            return
        self._reap()  # a task that has just ended by itself was not ended by us
        if self.running:
            self.signals.append(signum)
        if signum == signal.SIGKILL and not self._killed_at:
            self._killed_at = time.monotonic()
        end_group(self.pid, signum)

    def ask_to_end(self) -> None:
        """Has the task save, and with it the job, and end; what it has started is left alone."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def result(self) -> TaskResult:
        """How it has ended; once its return code is known."""
        assert self.returncode is not None
        return TaskResult(
            self.task,
            self.returncode,
            self.log.path,
            self.started,
            self.ended,
            stopped=bool(self.signals) and not self.stopped_for,
            log_start=self.log.start,
            stood_still=self.stopped_for,
        )

    def poll(self) -> bool:
        """Looks whether the task has ended; returns whether nothing of it is left."""
        if self.gone:
            return True
        self._reap()
        if self.running:
            return False
        now = time.monotonic()
        killed_long_ago = self._killed_at and now > self._killed_at + _KILLED_SECONDS
        if killed_long_ago or not group_is_alive(self.pid):
            self.gone = True
        elif now > self._remains_until and not self._killed_at:
            if not self.signals:
                self.remains = {pid: command_of(pid) for pid in group_members(self.pid)}
            self.send(signal.SIGKILL)
        return self.gone

    def close(self) -> bytes:
        """Gives back what is held once the task is gone; returns the last of its output.

        A process that has left the group may hold the pipe open: its output is not waited for.
        """
        last = self.drain()
        self._close_pipe()
        self.log.close()
        for sign in (self._sign, self._writing):
            with contextlib.suppress(OSError):
                sign.unlink()
        return last

    def _reap(self) -> None:
        if self.running:
            self.returncode = self._process.poll()
            if self.returncode is not None:
                self.ended = time.time()
                self._remains_until = time.monotonic() + REMAINS_SECONDS

    def _close_pipe(self) -> None:
        if self._pipe is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._pipe = None


@dataclass(frozen=True)
class Starter:
    """Starts tasks of a job.

    Attributes:
        log_dir: The folder of the logs.
        environ: The variables that the plans' come on top of.
        guardian: Is told of each process.
        insider: A process in the job's own network; None where it has none.
        logs: Those that were begun.
    """

    log_dir: Path
    environ: Mapping[str, str]
    guardian: Guardian
    insider: int | None = None
    logs: set[Path] = field(default_factory=set)

    def start(self, plan: TaskPlan) -> TaskProcess:
        """Starts a task; where it ran before, its log goes on."""
        log = self.log_dir / f"{plan.task.type}-{plan.task.index}.log"
        again = log in self.logs
        self.logs.add(log)
        environ = plan.environ(self.environ)
        process = TaskProcess(plan, log, environ, again=again, insider=self.insider)
        self.guardian.watch(process.pid)
        return process
