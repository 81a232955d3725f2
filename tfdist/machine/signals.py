"""The signals that end a job, caught while it runs, and how long its tasks have to end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

__all__ = ["DEFAULT_GRACE", "ENDS", "caught", "exit_by", "take_back"]

ENDS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""What schedulers send before they take a machine away."""

DEFAULT_GRACE = 5.0
"""Seconds between the first signal to a task and SIGKILL, where nobody says (`--grace`)."""


@contextlib.contextmanager
def caught(
    handler: Callable[[int, FrameType | None], None], signals: Sequence[signal.Signals]
) -> Iterator[None]:
    """Gives signals to a handler until the end of the block.

    Signals that are ignored stay so, which is how `nohup` and a shell's background jobs work. In
    another thread than the main one, where Python allows no handlers, nothing happens.

    Args:
        handler: Called with the signal's number, in the main thread.
        signals: Which.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    free = [one for one in signals if signal.getsignal(one) != signal.SIG_IGN]
    before = {one: signal.signal(one, handler) for one in free}
    try:
        yield
    finally:
        for one, previous in before.items():
            # None: a handler that was not Python's, and that Python cannot put back.
            signal.signal(one, signal.SIG_DFL if previous is None else previous)


def exit_by(signum: int, _: FrameType | None) -> None:
    """A handler for `caught`: ends the process in order, with the code that shells give a signal.

    Raises:
        SystemExit: Always.
    """
    raise SystemExit(128 + signum)


def take_back(signum: signal.Signals) -> None:
    """Has a signal do again what Python knows of it, where a library has caught it in native code.

    In another thread than the main one, where Python allows no handlers, nothing happens.

    Args:
        signum: Which.
    """
    handler = signal.getsignal(signum)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signum, handler)
