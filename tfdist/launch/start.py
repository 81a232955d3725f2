"""The first moments of a task's process: tie it to the launcher, then become the task.

Run as a program, `python -I -S start.py LAUNCHER_PID INSIDER_PID command...`, and never imported by
the rest. Where the job has a network of its own, it enters that of the insider (`namespace.py`).
On Linux it asks the kernel to kill this process when the launcher ends (`prctl(PR_SET_PDEATHSIG)`,
which survives `exec`), so that no orphan is left even when launcher and guardian are both killed.
The kernel counts the *thread* that started this process as its parent: the launcher starts tasks
from the thread that also waits for them.

This is a program of its own, not a `preexec_fn`, because code between fork and exec is not safe in
a launcher with threads (a notebook kernel that has TensorFlow inside).
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_SPACES = ("user", "net", "mnt")


def tie_to_parent(parent: int) -> None:
    """Lets the kernel kill this process when its parent ends; Linux only, else nothing happens.

    Args:
        parent: The process id that our parent must have; it has ended already if it is another one.
    """
    if sys.platform.startswith("linux"):
        try:
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        except (ImportError, OSError, AttributeError):
            pass  # a Python without ctypes: the guardian is left
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(143)


def enter_network(insider: int) -> None:
    """Moves this process into the network namespace of another, and the others that go with it.

    Those are of users, and of mounts where it has another /etc/hosts.

    Args:
        insider: The other process.

    Raises:
        OSError: It has ended.
    """
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    spaces = [os.open(f"/proc/{insider}/ns/{kind}", os.O_RDONLY) for kind in _SPACES]
    own = [os.stat(f"/proc/self/ns/{kind}").st_ino for kind in _SPACES]
    folder = os.getcwd()
    for space, number in zip(spaces, own, strict=True):
        if os.fstat(space).st_ino != number and library.setns(space, 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        os.close(space)
    os.chdir(folder)  # to enter mounts leads to their root


def main(arguments: list[str]) -> None:
    """Becomes the task.

    Args:
        arguments: The launcher's process id, that of a process in the job's own network or 0, then
            the command.
    """
    launcher, insider, *command = arguments
    if int(insider):
        try:
            enter_network(int(insider))
        except OSError as error:
            print(f"cannot enter the job's network: {error.strerror}", file=sys.stderr)
            sys.exit(1)
    tie_to_parent(int(launcher))  # last: a process that enters a namespace is untied
    # This interpreter has set these to "ignored", and exec would hand that on to the task.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot start {command[0]!r}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
