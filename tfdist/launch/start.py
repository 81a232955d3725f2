"""The first moments of a task's process: tie it to the launcher, then become the task.

Run as a program, `python -I -S start.py LAUNCHER_PID command...`, and never imported by the rest.
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


def main(arguments: list[str]) -> None:
    """Becomes the task.

    Args:
        arguments: The launcher's process id, then the command.
    """
    tie_to_parent(int(arguments[0]))
    # This interpreter has set these to "ignored", and exec would hand that on to the task.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(arguments[1], arguments[1:])
    except OSError as error:
        print(f"cannot start {arguments[1]!r}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
