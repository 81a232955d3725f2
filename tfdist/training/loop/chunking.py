"""How many steps to run before Python looks up again: the length of a chunk.

Steps of a chunk run inside one TensorFlow graph loop, so the longer the chunk, the less Python
costs; the shorter, the livelier the progress bar. Pure: imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses

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
    """

    every: int | None = None
    target: float = TARGET_SECONDS
    _length: int = 1
    _steps: int = 0
    _seconds: float = 0.0
    _chunks: int = 0

    def next_length(self, left: int | None) -> int:
        """Returns the number of steps of the next chunk.

        Args:
            left: the steps left in the epoch, or None where nobody knows.
        """
        length = self.every or self._length
        return length if left is None else min(length, left)

    def took(self, steps: int, seconds: float) -> None:
        """Notes that the last chunk took this worker so many seconds."""
        self._chunks += 1
        # The first chunk pays for the tracing of the graph: it says nothing about a step.
        self._steps, self._seconds = (steps, seconds) if self._chunks > 1 else (0, 0.0)

    @property
    def seconds(self) -> float:
        """What this worker tells the others of its last chunk, in seconds."""
        return self._seconds

    def agreed(self, seconds: float) -> None:
        """Sets the length from what all workers said of the last chunk (their mean, in seconds)."""
        if self._steps:
            wanted = int(self.target * self._steps / max(seconds, 1e-6))
            longest = min(_GROWTH * max(self._length, self._steps), _LONGEST_CHUNK)
            self._length = max(1, min(wanted, longest))
