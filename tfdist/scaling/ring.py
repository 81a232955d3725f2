"""The sum of everybody's gradients over a ring. Pure.

A ring all-reduce of B bytes over N workers sends 2(N-1) messages of B/N bytes one after the other,

    t(N, B) = 2(N-1) alpha + 2(N-1)/N B/beta

(Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", Journal
of Parallel and Distributed Computing 69(2), 2009, section 3.) Few bytes go by a gather of N-1
messages of B bytes, as they do in training (`strategies.small_sums`).
"""

from __future__ import annotations

import dataclasses

from tfdist.given_numbers import is_count
from tfdist.scaling.link import Link
from tfdist.strategies.small_sums import is_gathered

__all__ = ["Ring", "check_sum"]


@dataclasses.dataclass(frozen=True)
class Ring:
    """All workers on one ring.

    Attributes:
        link: between two neighbours.
    """

    link: Link

    def hop(self, workers: int) -> Link:
        """The slowest hop of a ring of so many workers."""
        del workers
        return self.link

    def messages(self, workers: int, size: float) -> float:
        """Messages one after the other, of a sum of `size` bytes."""
        check_sum(workers, size)
        return (1.0 if _gathers(workers, size) else 2.0) * (workers - 1)

    def sent(self, workers: int, size: float) -> float:
        """Bytes that go over each link, of a sum of `size` bytes."""
        check_sum(workers, size)
        return (workers - 1.0) * size * (1.0 if _gathers(workers, size) else 2.0 / workers)

    def seconds(self, workers: int, size: float) -> float:
        """Seconds of a sum.

        Args:
            workers: how many, at least 1; one has nobody to wait for.
            size: bytes of the gradients, at least 0.

        Raises:
            ValueError: one is no such number.

        Example:
            >>> Ring(Link(latency=1e-4, bandwidth=1e9)).seconds(workers=2, size=1e6)
            0.0012
        """
        return self.link.seconds(self.messages(workers, size), self.sent(workers, size))


def check_sum(workers: int, size: float) -> None:
    """Checks what is summed.

    Raises:
        ValueError: a number is not what it should be.
    """
    if not is_count(workers):
        raise ValueError(f"workers={workers!r}: give a number of at least 1")
    if not size >= 0:
        raise ValueError(f"size={size!r}: give bytes, at least 0")


def _gathers(workers: int, size: float) -> bool:
    return workers > 1 and is_gathered(workers, size)
