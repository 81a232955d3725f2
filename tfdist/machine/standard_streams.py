"""Standard output and error that the shell has closed, or whose reader has gone."""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["flush", "open_closed"]


def open_closed() -> None:
    """Has the output go nowhere where the shell has closed it (`>&-`): Python has None there."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # It stays open as long as the process.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def flush() -> None:
    """Writes what is left; where nobody reads it any more, Python is not to complain at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, sys.stdout.fileno())
            os.close(nothing)
