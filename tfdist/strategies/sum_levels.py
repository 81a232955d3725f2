"""Sums over many replicas level by level, in fewer messages one after the other than a ring. Pure.

A ring of N passes 2(N-1) messages, one after the other: where the bytes take little time, that is
all that a sum costs. Replicas that stand in a grid of several dimensions sum along one after the
other: in groups of k along the first, everybody sends everybody a part (one message's time), and
adds up what it has got; the parts are summed in the same way along the other dimensions, along the
last by a ring; and the groups pass the sums around (k-1). As many bytes travel as on the ring, and
with the replicas of a host as the first groups most of them do not leave it.

Mikami et al., "Massively distributed SGD: ImageNet/ResNet-50 training in a flash", 2018, section
3.2 (2D-torus all-reduce); Goyal et al., 2017, section 4 (within hosts first).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

from tfdist.strategies.small_sums import is_gathered

__all__ = ["SumLevels", "levels_of"]

_LEVEL = 2
"""What the copies and operations of one more level cost, in messages."""

_BYTES = 1 << 18
"""What a level copies in the time of a message: measured with 6 to 12 workers on two cores."""


@dataclasses.dataclass(frozen=True)
class SumLevels:
    """A grid of replicas, along whose dimensions sums go.

    Attributes:
        order: the numbers of the replicas, those of a host beside each other.
        sizes: of the groups of each level, at least 2; their product is the number of replicas.

    Raises:
        ValueError: they do not fit.
    """

    order: tuple[int, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != [*range(math.prod(self.sizes))] or min(self.sizes) < 2:
            raise ValueError(f"levels of {self.sizes} do not hold the replicas {self.order}")

    @property
    def messages(self) -> int:
        """How many messages a sum waits for, one after the other; the cost of levels is in it."""
        return _messages(self.sizes)

    def place(self, replica: int, level: int) -> int:
        """Which of its group of a level a replica is, from 0."""
        at = self.order.index(replica)
        return at // math.prod(self.sizes[:level]) % self.sizes[level]

    def group(self, replica: int, level: int) -> tuple[int, ...]:
        """The replicas of its group of a level, by their places."""
        step = math.prod(self.sizes[:level])
        first = self.order.index(replica) - self.place(replica, level) * step
        return tuple(self.order[first + n * step] for n in range(self.sizes[level]))

    def takes(self, size: int, wanted: bool = False) -> bool:
        """Whether a sum goes so: not by a gather, and on quick links not by a ring.

        Args:
            size: bytes of the tensor.
            wanted: whether levels spare bytes between hosts, and so no sum goes by a ring.
        """
        replicas = len(self.order)
        if replicas - 1 <= self.messages and is_gathered(replicas, size):
            return False
        return wanted or size <= (_ring(replicas) - self.messages) * _BYTES


def levels_of(hosts: Sequence[str], wanted: bool = False) -> SumLevels | None:
    """Returns how many replicas are to sum by levels.

    Args:
        hosts: of each replica. They make the first groups, if each has as many replicas.
        wanted: whether levels are to be taken where they only spare bytes between hosts.

    Returns:
        None where a ring takes as few messages, and so where the number of replicas is a prime.
    """
    names = [*dict.fromkeys(hosts)]
    counts = {hosts.count(name) for name in names}
    several = len(names) > 1 and counts != {1} and len(counts) == 1
    if several:
        order = tuple(i for name in names for i, host in enumerate(hosts) if host == name)
        sizes = _fewest(len(hosts) // len(names), False) + _fewest(len(names), True)
    else:
        order, sizes = tuple(range(len(hosts))), _fewest(len(hosts), True)
    if len(sizes) == 1:
        return None
    levels = SumLevels(order, sizes)
    spares = levels.messages < _ring(len(hosts))
    return levels if spares or (wanted and several) else None


def _ring(replicas: int) -> int:
    return 2 * (replicas - 1)


def _messages(sizes: Sequence[int], is_last: bool = True) -> int:
    """Of levels, the last of which is a ring if it is that of all."""
    if not sizes:
        return 0
    end = _ring(sizes[-1]) if is_last else sizes[-1] + _LEVEL
    return sum(size + _LEVEL for size in sizes[:-1]) + end


@functools.cache
def _fewest(count: int, is_last: bool) -> tuple[int, ...]:
    """The sizes of levels for so many replicas that wait for the fewest messages."""
    sizes = [size for size in range(2, count // 2 + 1) if count % size == 0]
    ways = [(count,), *((size, *_fewest(count // size, is_last)) for size in sizes)]
    return min(ways, key=lambda sizes: (_messages(sizes, is_last), len(sizes)))
