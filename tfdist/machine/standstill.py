"""Whether this process itself has stood still: stopped, or on a machine that slept.

Who wakes up finds that everybody has been silent for long, and must blame nobody for it. So a
thread looks at the clock, and does nothing else: one that waits for a name server, a disk or a host
that is cut off is late, too, and has not stood still.
"""

from __future__ import annotations

import threading
import time

__all__ = ["Standstill", "lately"]

_PAUSE_SECONDS = 5.0
_LOOK_SECONDS = 1.0

_clock: threading.Thread | None = None
_looked: float | None = None  # by whichever thread, the last time
_times, _woken, _seconds = 0, 0.0, 0.0


class Standstill:
    """Tells, to one who asks now and then, whether this process has stood still."""

    def __init__(self) -> None:
        _keep_looking()
        self._seen = _times

    def is_over(self) -> bool:
        """Whether this process has stood still since it was asked the last time."""
        _look()
        before, self._seen = self._seen, _times
        return self._seen != before


def lately(within: float) -> float:
    """For how long this process has stood still, once there is a `Standstill`.

    Args:
        within: how long ago it may have woken, in seconds.

    Returns:
        Seconds; 0 where it has not stood still.
    """
    _look()
    return _seconds if _seconds and time.monotonic() - _woken <= within else 0.0


def _look() -> None:
    """Looks at the clock; whichever thread wakes first does so before anybody is blamed."""
    global _looked, _times, _woken, _seconds
    before, _looked = _looked, time.monotonic()
    if before is not None and _looked - before > _PAUSE_SECONDS:
        _times, _woken, _seconds = _times + 1, _looked, _looked - before


def _keep_looking() -> None:
    global _clock, _looked
    if _clock is not None and _clock.is_alive():  # there is none in a forked child
        _look()
        return
    _looked = time.monotonic()
    _clock = threading.Thread(target=_look_for_ever, name="tfdist-clock", daemon=True)
    _clock.start()


def _look_for_ever() -> None:
    while True:
        _look()
        time.sleep(_LOOK_SECONDS)
