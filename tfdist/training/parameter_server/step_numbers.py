"""The numbers by which parameter servers know a step that comes a second time.

Where a worker is lost, TensorFlow gives its chunk of steps to another one, though some updates were
made already. Every step therefore has a number, and every chunk under way a slot, in which each
server keeps the number of the chunk's last update (`server_updates`). Numbers only grow: a slot
can be used again as soon as its chunk has come back.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["StepNumbers"]


class StepNumbers:
    """Gives chunks of steps their slots and numbers.

    Args:
        slots: how many chunks may be under way at once.
    """

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"{slots} slots were given: there must be one at least")
        self._free = list(range(slots))
        self._next = 1  # servers begin with 0: nothing applied

    @property
    def has_room(self) -> bool:
        """Whether there is a slot for one more chunk."""
        return bool(self._free)

    def take(self, steps: int) -> tuple[int, int]:
        """Returns the slot of a new chunk, and the number of its first step.

        Args:
            steps: of the chunk; one number more is its own, for what is sent at its end.

        Raises:
            RuntimeError: no slot is free.
        """
        if not self._free:
            raise RuntimeError("no slot is free: more chunks of steps are under way than may be")
        first = self._next
        self._next += steps + 1
        return self._free.pop(), first

    def give_back(self, slots: Iterable[int]) -> None:
        """Notes that chunks have come back, or never will."""
        self._free.extend(slots)
