"""The signals that end a job, caught while it runs."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["caught"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


@contextlib.contextmanager
def caught(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Gives Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 and 2 to a handler until the end of the block.

    Signals that are ignored stay so, which is how `nohup` and a shell's background jobs work. In
    another thread than the main one, where Python allows no handlers, nothing happens.

    Args:
        handler: Called with the signal's number, in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for name in _NAMES:
        signum = getattr(signal, name, None)
        if signum is not None and signal.getsignal(signum) != signal.SIG_IGN:
            before[signum] = signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum, previous in before.items():
            # None: a handler that was not Python's, and that Python cannot put back.
            signal.signal(signum, signal.SIG_DFL if previous is None else previous)
