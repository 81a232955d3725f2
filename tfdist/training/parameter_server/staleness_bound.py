"""How many steps of others an update may miss, kept by what is handed out. Pure.

A worker computes an update from weights that it has read at the step's beginning; what others have
applied meanwhile it misses. No step misses more than the steps of all chunks that were under way at
some time while its own was: so a chunk is handed out only if for none of those under way, and not
for itself, these are more than the bound. Where one worker is slow the others wait for it then,
before they are further ahead than that.

Source of the idea: Ho et al., "More Effective Distributed ML via a Stale Synchronous Parallel
Parameter Server", 2013, who bound how many of its own steps a worker is ahead of the slowest. This
bounds what an update misses, counted in steps of all others.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["StalenessBound"]

_CHUNKS = 4  # of each worker: two under way, and two that come while those are


class StalenessBound:
    """Knows what is under way.

    Args:
        most: steps of others that an update may miss; None where any number will do.
        workers: how many take steps.
    """

    def __init__(self, most: int | None, workers: int) -> None:
        self._most = most
        self._workers = workers
        self._under_way: dict[int, int] = {}
        self._beside: dict[int, int] = {}
        self._next = 0

    def steps(self) -> int | None:
        """Returns how many steps may be handed out as one chunk now; None for any number."""
        if self._most is None:
            return None
        longest = max(1, self._most // (_CHUNKS * self._workers))
        if not self._under_way:
            return longest
        room = self._most - max(sum(self._under_way.values()), *self._beside.values())
        # What is handed out now misses what is under way; each of those may miss this.
        return max(0, min(longest, room))

    def begin(self, steps: int) -> int:
        """Notes a chunk that is handed out.

        Args:
            steps: that it is of.

        Returns:
            A number by which to tell its end.
        """
        self._next += 1
        for number in self._under_way:
            self._beside[number] += steps
        self._beside[self._next] = sum(self._under_way.values())
        self._under_way[self._next] = steps
        return self._next

    def end(self, numbers: Iterable[int]) -> None:
        """Notes that chunks have come back, or never will."""
        for number in numbers:
            del self._under_way[number], self._beside[number]
