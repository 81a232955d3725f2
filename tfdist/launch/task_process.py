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
from tfdist.launch.guardian import (
    Guardian,
    command_of,
    end_group,
    group_is_alive,
    group_members,
    marked_processes,
    read_proc,
)
from tfdist.launch.output import TaskLog
from tfdist.launch.plan import JobPlan, TaskPlan
from tfdist.launch.presence import Presence
from tfdist.launch.running_task import RunningTask
from tfdist.process import ASKED_SUFFIX, SAVES_VARIABLE, WRITES_SUFFIX
from tfdist.progress.teller import PIPE_VARIABLE, WISH_VARIABLE, pipe_variable

__all__ = ["REMAINS_SECONDS", "LocalStarter", "TaskProcess", "begin_log", "write_beside"]

REMAINS_SECONDS = 1.0
"""What a task has started may go on for so long after the task has ended; then it is killed."""

_KILLED_SECONDS = 2.0  # a killed group that is still there then is zombies that nobody collects
_CHUNK = 1 << 16


class TaskProcess(RunningTask):
    """A task's process group on this machine.

    The process is the leader of its own session and process group, so that the terminal's Ctrl-C
    reaches only the launcher, and so that one signal reaches whatever the task has started. Its
    standard input is empty; standard output and error are one pipe, which keeps their order.
    """

    def __init__(
        self,
        plan: TaskPlan,
        log: TaskLog,
        environ: Mapping[str, str],
        *,
        signs: Path,
        insider: int | None = None,
    ) -> None:
        """Starts the process.

        Args:
            plan: What to run.
            log: Takes its output; closed with the task.
            environ: All environment variables of the process.
            signs: The folder of the files by which it shows what it does.
            insider: A process in the job's own network; None where it has none.

        Raises:
            LaunchError: The process cannot be started.
        """
        super().__init__(plan, log)
        self._remains_until = 0.0
        self._killed_at = 0.0
        self._lost_code = 0
        self._sign = signs / f".{plan.task.type}-{plan.task.index}.saves"
        self._writing = signs / (self._sign.name + WRITES_SUFFIX)
        self._asked = signs / (self._sign.name + ASKED_SUFFIX)
        for sign in (self._sign, self._writing, self._asked):
            sign.unlink(missing_ok=True)
        start = os.path.join(os.path.dirname(__file__), "start.py")
        ids = (str(os.getpid()), str(insider or 0))
        variables = {**environ, SAVES_VARIABLE: str(self._sign.absolute())}
        self._progress, handed = _progress_pipe(variables)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", start, *ids, *plan.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=variables,
                pass_fds=handed,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self.log.close()
            self._close_progress()
            raise LaunchError(f"{self.name} cannot be started: {error.strerror}") from None
        finally:
            for descriptor in handed:
                os.close(descriptor)
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self._pipe: int | None = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)

    @property
    def shows_saves(self) -> bool:
        """See `RunningTask`."""
        return self._sign.exists()

    @property
    def shows_writes(self) -> bool:
        """See `RunningTask`."""
        return self._writing.exists()

    @property
    def is_stopped(self) -> bool:
        """See `RunningTask`; Linux only."""
        return read_proc(self.pid, "stat").rpartition(b")")[2].split()[:1] == [b"T"]

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

    def read_progress(self) -> bytes:
        """See `RunningTask`."""
        try:
            return b"" if self._progress is None else os.read(self._progress, _CHUNK)
        except BlockingIOError:
            return b""

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

    def lose(self, why: str, code: int) -> None:
        """Ends the task at once, as it is cut off from the others.

        Args:
            why: In words.
            code: Its exit code.
        """
        if self.running:
            self.lost, self._lost_code = why, code
            self.send(signal.SIGKILL)

    def ask_to_end(self) -> None:
        """Has the task save, and with it the job, and end, in this training or in the next one."""
        if self.running:
            self._asked.touch()

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
        self._close_progress()
        self.log.close()
        for sign in (self._sign, self._writing, self._asked):
            with contextlib.suppress(OSError):
                sign.unlink()
        return last

    def _reap(self) -> None:
        if self.running:
            self.returncode = self._process.poll()
            if self.returncode is not None:
                if self.lost:
                    self.returncode = self._lost_code
                self.ended = time.time()
                self._remains_until = time.monotonic() + REMAINS_SECONDS

    def _close_pipe(self) -> None:
        if self._pipe is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._pipe = None

    def _close_progress(self) -> None:
        if self._progress is not None:
            os.close(self._progress)
        self._progress = None


def _progress_pipe(variables: dict[str, str]) -> tuple[int | None, tuple[int, ...]]:
    """A pipe in which a task tells its progress, where anybody wishes; notes it in the variables.

    Returns:
        The end to read, and the one to hand on.
    """
    wish = variables.pop(WISH_VARIABLE, "")
    variables.pop(PIPE_VARIABLE, None)  # of a launcher that is a task itself
    if not wish:
        return None, ()
    source, sink = os.pipe()
    for end in (source, sink):
        os.set_blocking(end, False)  # a task waits for nobody who does not read
    variables[PIPE_VARIABLE] = pipe_variable(sink, wish)
    return source, (sink,)


@dataclass(frozen=True)
class LocalStarter:
    """Starts tasks of a job on this machine.

    Attributes:
        mark: Of the job, which all processes of its tasks carry.
        folder: Of the files by which tasks show what they do.
        environ: The variables that the plans' come on top of.
        guardian: Is told of each process.
        insider: A process in the job's own network; None where it has none.
        others: IP addresses at which others than tasks listen in that network.
        keeps_logs: Whether the logs lie in the folder; else somebody else keeps them.
        logs: Those that were begun.
    """

    mark: str
    folder: Path
    environ: Mapping[str, str]
    guardian: Guardian
    insider: int | None = None
    others: tuple[str, ...] = ()
    keeps_logs: bool = True
    logs: set[Path] = field(default_factory=set)

    def start(self, plan: TaskPlan) -> TaskProcess:
        """Starts a task; where it ran before, its log goes on."""
        log = begin_log(plan.task, self.folder, self.logs) if self.keeps_logs else _no_log()
        environ = plan.environ(self.environ)
        process = TaskProcess(plan, log, environ, signs=self.folder, insider=self.insider)
        self.guardian.watch(process.pid)
        return process

    def forget(self, task: RunningTask) -> None:
        """Takes note that nothing of a task is left."""
        self.guardian.forget(task.pid)

    def witness(self, plan: JobPlan) -> Presence:
        """Who sees which of the tasks that are started take part."""
        tasks = [one.task for one in plan.tasks]
        network_of = "self" if self.insider is None else str(self.insider)
        return Presence(plan.cluster, tasks, network_of, self.others)

    def remains(self) -> dict[str, dict[int, str]]:
        """What the job has left running."""
        left = {pid: command_of(pid) for pid in marked_processes(self.mark)}
        return {"the job": left} if left else {}


def begin_log(task: Task, folder: Path, begun: set[Path]) -> TaskLog:
    """Opens a task's log.

    Args:
        task: Which task.
        folder: Of the job's logs.
        begun: Those of this job, which go on where the task runs again.

    Raises:
        LaunchError: It cannot be written.
    """
    path = folder / f"{task.type}-{task.index}.log"
    again = path in begun
    begun.add(path)
    try:
        return TaskLog(path, append=again)
    except OSError as error:
        raise LaunchError(f"the log {path} cannot be written: {error.strerror}") from None


def write_beside(folder: Path, name: str, data: bytes) -> None:
    """Adds to a log beside those of the tasks, as far as it can be written.

    Args:
        folder: Of the job's logs.
        name: Of the file; what has no place in one is left out.
        data: What to add.
    """
    path = folder / "".join(one if one.isalnum() or one in "-_." else "_" for one in name)
    with contextlib.suppress(OSError):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(log, "ab") as file:
            file.write(data)


def _no_log() -> TaskLog:
    return TaskLog(Path(os.devnull))
