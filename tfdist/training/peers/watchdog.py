"""Says when nothing moves: a task of the job may hang, and TensorFlow would wait in silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tfdist import log

__all__ = ["Watchdog"]

_FIRST_SECONDS = 60.0


def _not_known() -> str:
    return (
        "if this is not expected (a large model is being traced, a slow callback runs), another "
        "task of the job hangs, of which its log may say nothing: `py-spy dump --pid` shows where"
    )


class Watchdog:
    """Shows a line when no step has ended for a minute, and again after two, four, eight ...

    Use it as a context manager around the steps, and call `moved` after each chunk of them.

    Args:
        what: what is being waited for, for the message.
        seconds: how long is unusual.
        active: False makes it do nothing (a job of one process waits for nobody).
        why: says what is known, at that moment, of who is waited for.
    """

    def __init__(
        self,
        what: str,
        seconds: float = _FIRST_SECONDS,
        active: bool = True,
        why: Callable[[], str] | None = None,
    ) -> None:
        self._what = what
        self._why = why or _not_known
        self._seconds = seconds
        self._active = active
        self._done = threading.Event()
        self._last = time.monotonic()
        self._next = seconds

    def moved(self) -> None:
        """Notes that a step has ended."""
        self._last = time.monotonic()
        self._next = self._seconds

    def _watch(self) -> None:
        while not self._done.wait(min(self._seconds / 4, 5.0)):
            still = time.monotonic() - self._last
            if still >= self._next:
                log.warning("%s: nothing has moved for %.0f s; %s", self._what, still, self._why())
                self._next *= 2

    def __enter__(self) -> Watchdog:
        if self._active:
            self.moved()
            threading.Thread(target=self._watch, name="tfdist-stall", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
