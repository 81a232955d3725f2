"""Ends a process with the exit code of the tfdist error that nobody caught.

A scheduler can then tell a wrong cluster spec (64: do not try again) from a lost machine (75: try
again). The traceback is printed as ever.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType

from tfdist.errors import TfdistError

__all__ = ["tell_by_exit_code"]


def tell_by_exit_code() -> None:
    """Has an uncaught `TfdistError` end this process with its `exit_code`, not with 1."""
    before = sys.excepthook
    if getattr(before, "tells_exit_codes", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        if isinstance(error, TfdistError):
            sys.stdout.flush()
            sys.stderr.flush()
            # Python gives a hook no other way to choose the code.
            os._exit(error.exit_code)

    hook.tells_exit_codes = True  # type: ignore[attr-defined]
    sys.excepthook = hook
