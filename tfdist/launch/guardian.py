"""The guardian: a tiny process that ends what the launcher leaves behind.

    launcher ──► task (a process group each, ended by the kernel if the launcher ends: start.py)
       │           └── what the task started (the kernel forgets these)
       └─ pipe ──► guardian (a session of its own: no terminal and no group kill reaches it)

The launcher holds the only write end of the pipe and tells which process groups are alive. When
the pipe ends, the launcher has ended, however that came about (SIGKILL, a crash, out of memory),
and the guardian kills every group that it still knows, then every process that carries the job's
mark in its environment: those are the ones that left their group (`setsid`, a daemon).

This file is both a module of the launcher (`Guardian`) and the program that the guardian runs. The
program starts in about 15 ms: it imports nothing but a little of the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

__all__ = [
    "JOB_VARIABLE",
    "Guardian",
    "command_of",
    "end_group",
    "group_is_alive",
    "group_members",
    "marked_processes",
    "process_ids",
    "read_proc",
]

JOB_VARIABLE = "TFDIST_JOB"
"""The mark of a job in the environment of all its processes: a random word per job."""

_SWEEPS = 3  # a process that forks while it is being swept away is caught by the next sweep
_PARENT_CHECK_SECONDS = 1.0


def group_is_alive(group: int) -> bool:
    """Whether any process of a process group runs.

    Zombies do not: where a container's first process collects nobody's children, they stay.
    """
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody is there, but has become another user
        return True
    return not os.path.exists("/proc/self/stat") or bool(group_members(group))


def group_members(group: int) -> list[int]:
    """The processes of a process group that run (Linux; elsewhere none is found)."""
    members = []
    for pid in process_ids():
        # After the name, which may hold blanks: state, parent, group.
        fields = read_proc(pid, "stat").rpartition(b")")[2].split()
        if len(fields) > 2 and int(fields[2]) == group and fields[0] not in (b"Z", b"X"):
            members.append(pid)
    return members


def command_of(pid: int) -> str:
    """The command line of a process, shortened; "" if it has ended."""
    program, _, rest = read_proc(pid, "cmdline").decode(errors="replace").partition("\0")
    return " ".join(f"{os.path.basename(program)} {rest}".replace("\0", " ").split())[:80]


def end_group(group: int, signum: int) -> None:
    """Sends a signal to a process group; it is no error if nobody is left in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)


def marked_processes(job: str) -> list[int]:
    """The processes of this machine that carry a job's mark (Linux; elsewhere none is found).

    Args:
        job: The job's mark, the value of `TFDIST_JOB`.

    Returns:
        Process ids, without this process and those of other users, which cannot be read.
    """
    mark = f"{JOB_VARIABLE}={job}".encode()
    return [
        pid
        for pid in process_ids()
        if pid != os.getpid() and mark in read_proc(pid, "environ").split(b"\0")
    ]


def sweep(job: str) -> int:
    """Kills every process that carries the job's mark; returns how many there were."""
    ended = 0
    for _ in range(_SWEEPS):
        left = marked_processes(job)
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                ended += 1
        time.sleep(0.02)
    return ended


class Guardian:
    """The launcher's side of the guardian: start it, tell it of process groups, let it go."""

    def __init__(self, job: str) -> None:
        """Starts the guardian.

        Args:
            job: The job's mark, which its processes carry in `TFDIST_JOB`.
        """
        import subprocess

        environ = {name: value for name, value in os.environ.items() if name != JOB_VARIABLE}
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, job, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=environ,
            bufsize=0,
        )

    @property
    def pid(self) -> int:
        """The guardian's process id."""
        return self._process.pid

    def watch(self, group: int) -> None:
        """From now on, this process group ends with the launcher."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """This process group has ended: its number may soon be somebody else's."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Lets the guardian go. Groups that were not forgotten are killed."""
        import subprocess

        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, line: str) -> None:
        # A guardian that somebody has killed is a loss of safety, not of the job.
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.write(line.encode())

    def __enter__(self) -> Guardian:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def guard(job: str, launcher: int, pipe: int = 0) -> None:
    """What the guardian does: listen until the launcher is gone, then end what it left.

    Args:
        job: The job's mark.
        launcher: The launcher's process id, which is our parent as long as it lives.
        pipe: File descriptor of the pipe's read end.
    """
    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    for signum in asked:  # Slurm sends them to all that a task has started
        signal.signal(signum, signal.SIG_IGN)
    groups: set[int] = set()
    rest = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], _PARENT_CHECK_SECONDS)
        if ready:
            data = os.read(pipe, 4096)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                change = groups.add if line[:1] == b"+" else groups.discard
                change(int(line[1:]))
        elif os.getppid() != launcher:
            # A process that the launcher's host program forked may hold a copy of the write end.
            break
    for group in groups:
        end_group(group, signal.SIGKILL)
    sweep(job)


def process_ids() -> list[int]:
    """The processes that run (Linux; elsewhere none is found)."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def read_proc(pid: int, name: str) -> bytes:
    """A file of /proc, empty if the process has ended or belongs to somebody else."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


if __name__ == "__main__":
    guard(sys.argv[1], int(sys.argv[2]))
