"""Whether this process itself has stood still: stopped, or on a machine that slept.

Who wakes up finds that everybody has been silent for long, and must blame nobody for it.
"""

from __future__ import annotations

import time

__all__ = ["Standstill", "lately"]

_PAUSE_SECONDS = 5.0

_looked: float | None = None  # by whichever thread, the last time
_woken, _seconds = 0.0, 0.0


class Standstill:
    """Looks at the clock once a round, and tells whether a round has taken far too long."""

    def __init__(self) -> None:
        self._looked = time.monotonic()

    def is_over(self) -> bool:
        """Whether this process has stood still since the last look."""
        lately(0.0)
        before, self._looked = self._looked, time.monotonic()
        _note(self._looked)
        return self._looked - before > _PAUSE_SECONDS


def lately(within: float) -> float:
    """For how long this process has stood still, where somebody looks at the clock all the time.

    Args:
        within: how long ago it may have woken, in seconds.

    Returns:
        Seconds; 0 where it has not stood still.
    """
    global _woken, _seconds
    now = time.monotonic()
    if _looked is not None and now - _looked > _PAUSE_SECONDS:
        _woken, _seconds = now, now - _looked
        _note(now)
    return _seconds if _seconds and now - _woken <= within else 0.0


def _note(now: float) -> None:
    global _looked
    _looked = now
