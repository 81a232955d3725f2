"""A batch in small portions that workers take as they are free, as whole-batch optimizers do. Pure.

Sandblaster's way with slow workers: portions far smaller than a worker's share of the batch, new
ones for whoever is free, and copies of the last ones, of which the first to be there counts (Dean
et al., "Large scale distributed deep networks", 2012, section 4.2). Messages are taken as part of a
worker's pace.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence

from tfdist.given_numbers import is_count, is_number

__all__ = ["PortionJob"]


@dataclasses.dataclass(frozen=True)
class PortionJob:
    """One pass over a batch.

    Attributes:
        portions: that it is cut into, at least 1.
        backups: whether a worker for which none is left takes a copy of the one that was begun
            first, if nobody else has.

    Raises:
        ValueError: `portions` is no such number.
    """

    portions: int
    backups: bool = True

    def __post_init__(self) -> None:
        if not is_count(self.portions):
            raise ValueError(f"portions={self.portions!r}: give a number of at least 1")

    def seconds(self, paces: Sequence[float]) -> float:
        """Seconds until each portion's result is there.

        Args:
            paces: seconds that each worker takes for a portion, above 0.

        Raises:
            ValueError: a pace is no such number.
        """
        if not paces or not all(is_number(pace, above=0) for pace in paces):
            raise ValueError(f"paces={paces!r}: give seconds of a portion for each worker")
        begun: list[int] = []  # portions, in the order in which they were handed out
        copied: set[int] = set()
        done: set[int] = set()
        free = [(0.0, worker, -1) for worker in range(len(paces))]
        while True:
            now, worker, portion = heapq.heappop(free)
            done.add(portion)
            if len(done - {-1}) == self.portions:
                return now
            if len(begun) < self.portions:
                portion = len(begun)
                begun.append(portion)
            else:
                late = (one for one in begun if one not in done and one not in copied)
                portion = next(late, -1) if self.backups else -1
                if portion < 0:
                    continue
                copied.add(portion)
            heapq.heappush(free, (now + paces[worker], worker, portion))
