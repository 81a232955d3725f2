"""Sums in two steps, within each host and between hosts. Pure.

With k tasks on each of H hosts: a reduce-scatter within every host leaves each task with the host's
sum of one part in k; the k parts are summed between hosts, each on a ring of its own, which share
the host's link; an all-gather within every host puts the parts together. So

    t = 2(k-1) alpha' + 2(k-1)/k B/beta'  +  2(H-1) alpha + 2(H-1)/H B/beta

where alpha' and beta' are those within a host. (Goyal et al., "Accurate, large minibatch SGD:
training ImageNet in 1 hour", 2017, section 4.1, sum so in three phases; Mikami et al., "Massively
distributed SGD: ImageNet/ResNet-50 training in a flash", 2018, section 3.2, in these.)
"""

from __future__ import annotations

import dataclasses

from tfdist.given_numbers import is_count
from tfdist.scaling.link import Link
from tfdist.scaling.ring import Ring, check_sum

__all__ = ["Hierarchy", "HostRing", "check_tasks"]


def check_tasks(tasks: object) -> None:
    """Refuses what is no number of tasks on a host.

    Raises:
        ValueError: it is not at least 1.
    """
    if not is_count(tasks):
        raise ValueError(f"tasks={tasks!r}: give a number of at least 1 for each host")


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """Tasks that share hosts.

    Attributes:
        between: the link of a host to others.
        within: the link between two tasks of a host.
        tasks: on each host, at least 1; where they do not come out even, the last host has fewer.

    Raises:
        ValueError: `tasks` is no such number.
    """

    between: Link
    within: Link
    tasks: int

    def __post_init__(self) -> None:
        check_tasks(self.tasks)

    def hosts(self, workers: int) -> int:
        """On how many hosts so many workers are."""
        return -(-workers // self.tasks)

    def seconds(self, workers: int, size: float) -> float:
        """Seconds of a sum.

        Args:
            workers: how many, at least 1.
            size: bytes of the gradients, at least 0.

        Raises:
            ValueError: one is no such number.
        """
        check_sum(workers, size)
        if self.hosts(workers) == 1:
            return Ring(self.within).seconds(workers, size)
        here = self.tasks
        inside = self.within.seconds(2.0 * (here - 1), 2.0 * (here - 1) / here * size)
        return inside + Ring(self.between).seconds(self.hosts(workers), size)


@dataclasses.dataclass(frozen=True)
class HostRing:
    """One ring through all tasks, host by host: its slowest hop sets the pace.

    Attributes:
        sums: the hosts.
    """

    sums: Hierarchy

    def hop(self, workers: int) -> Link:
        """The slowest hop of a ring of so many workers."""
        if self.sums.hosts(workers) == 1:
            return self.sums.within
        alone = self.sums.tasks == 1
        return self.sums.between if alone else self.sums.between.slower(self.sums.within)

    def seconds(self, workers: int, size: float) -> float:
        """Seconds of a sum; see `Hierarchy`."""
        return Ring(self.hop(workers)).seconds(workers, size)
