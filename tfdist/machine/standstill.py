"""Whether this process itself has stood still: stopped, or on a machine that slept.

Who wakes up finds that everybody has been silent for long, and must blame nobody for it.
"""

from __future__ import annotations

import time

__all__ = ["Standstill"]

_PAUSE_SECONDS = 5.0


class Standstill:
    """Looks at the clock once a round, and tells whether a round has taken far too long."""

    def __init__(self) -> None:
        self._looked = time.monotonic()

    def is_over(self) -> bool:
        """Whether this process has stood still since the last look."""
        before, self._looked = self._looked, time.monotonic()
        return self._looked - before > _PAUSE_SECONDS
