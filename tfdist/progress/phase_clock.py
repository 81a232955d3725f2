"""Measures which phase each moment of a `fit` belongs to, as the epoch loop tells it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from tfdist.progress.phase_seconds import PHASES, Phase

__all__ = ["PhaseClock"]


class PhaseClock:
    """Adds up the seconds of phases, of which one ends where the next begins.

    It runs for one thread, the one that has started it; what others tell is not heard. Between
    `start` and `stop` every moment is counted, once.

    Args:
        now: seconds by the clock that all processes of a machine share.

    Attributes:
        on_end: called with each phase that has ended, its beginning and its end; None where
            nobody wants to know.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._thread = 0
        self._phase: Phase | None = None
        self._since = 0.0
        self._held = 0
        self._seconds: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)
        self.on_end: Callable[[Phase, float, float], None] | None = None

    @property
    def phase(self) -> Phase | None:
        """Which it is now; None while the clock does not run."""
        return self._phase

    @property
    def since(self) -> float:
        """When it began, or was begun again."""
        return self._since

    def start(self, phase: Phase) -> bool:
        """Starts from zero; returns False, and does nothing, where it runs already."""
        with self._lock:
            if self._phase is not None:
                return False
            self._thread = threading.get_ident()
            self._seconds = dict.fromkeys(PHASES, 0.0)
            self._phase, self._since, self._held = phase, self._now(), 0
            return True

    def stop(self) -> None:
        """Ends the phase and the measuring; the seconds stay."""
        self._move(None)

    def enter(self, phase: Phase) -> None:
        """Ends the phase, and begins the next one, if perhaps of the same name."""
        if self._phase is not None and not self._held and self._is_own:
            self._move(phase)

    @contextlib.contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Enters a phase until the end of the block, then the one before."""
        before = self._phase
        if before is None or self._held or not self._is_own:
            yield
            return
        self._move(phase)
        try:
            yield
        finally:
            if self._phase is not None:
                self._move(before)

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Stays in its phase until the end of the block, whatever is told.

        Yields:
            Whether it runs, and was not held before.
        """
        holds = self._phase is not None and not self._held and self._is_own
        self._held += holds
        try:
            yield holds
        finally:
            self._held -= holds

    def seconds(self) -> dict[Phase, float]:
        """The seconds of each phase since the start, until now."""
        with self._lock:
            found = dict(self._seconds)
            if self._phase is not None:
                found[self._phase] += self._now() - self._since
            return found

    @property
    def _is_own(self) -> bool:
        return threading.get_ident() == self._thread

    def _move(self, phase: Phase | None) -> None:
        with self._lock:
            before, since = self._phase, self._since
            now = self._now()
            if before is not None:
                self._seconds[before] += now - since
            self._phase, self._since = phase, now
        if self.on_end is not None and before is not None:
            self.on_end(before, since, now)
