"""How many steps to run before Python looks up again: the length of a chunk.

Steps of a chunk run inside one TensorFlow graph loop, so the longer the chunk, the less Python
costs; the shorter, the livelier the progress bar. Pure: imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

__all__ = ["TARGET_SECONDS", "ChunkLength"]

TARGET_SECONDS = 0.25
"""What a chunk should take, where nothing else is said."""

_LONGEST_CHUNK = 4096
_GROWTH = 4


@dataclasses.dataclass
class ChunkLength:
    """Chooses chunk lengths; every worker that is told the same seconds chooses the same.

    Attributes:
        every: an exact length (from `steps_per_execution`, or 1 where a callback looks at every
            batch); None lets the length adapt.
        target: seconds that an adapted chunk should take.
        border: steps after which all that runs must have ended, before more are taken; None sets
            no border.
        wish: what this worker wants to be done after a chunk, for the others to see; the largest
            of all is done.
        wished: the largest that any worker has told.
    """

    every: int | None = None
    target: float = TARGET_SECONDS
    border: int | None = None
    wish: float = 0.0
    wished: float = 0.0
    _length: int = 1
    _steps: int = 0
    _seconds: float = 0.0
    _chunks: int = 0

    def next_length(self, left: int | None, done: int = 0) -> int:
        """Returns the number of steps of the next chunk; none goes over the border.

        Args:
            left: the steps left in the epoch, or None where nobody knows.
            done: how many were begun.
        """
        length = self.every or self._length
        if self.border is not None:
            length = min(length, max(0, self.border - done))
        return length if left is None else min(length, left)

    def took(self, steps: int, seconds: float) -> None:
        """Notes that the last chunk took this worker so many seconds."""
        self._chunks += 1
        # The first chunk pays for the tracing of the graph: it says nothing about a step.
        self._steps, self._seconds = (steps, seconds) if self._chunks > 1 else (0, 0.0)

    @property
    def told(self) -> list[float]:
        """What this worker tells the others: the seconds of its last chunk, and what it wishes."""
        return [self._seconds, self.wish]

    def agreed(self, seconds: Iterable[float], wishes: Iterable[float]) -> None:
        """Sets the length from what all workers have told: the mean of the last chunk's seconds."""
        told = [float(one) for one in seconds]
        self.wished = max(map(float, wishes))
        if self._steps:
            mean = sum(told) / len(told)
            wanted = int(self.target * self._steps / max(mean, 1e-6))
            longest = min(_GROWTH * max(self._length, self._steps), _LONGEST_CHUNK)
            self._length = max(1, min(wanted, longest))
