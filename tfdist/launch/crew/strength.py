"""How many places a job needs of each kind, and how many it may have at most. Pure."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tfdist.cluster import Cluster, Task
from tfdist.cluster.crew_size import Size, nouns_of
from tfdist.errors import ClusterError

__all__ = ["Strength"]


@dataclass(frozen=True)
class Strength:
    """What the places of a job must be, and may be, in a generation.

    Attributes:
        cluster: All places.
        ranges: Of workers and parameter servers whose number may change, by job; of the others each
            place is needed.

    Raises:
        ClusterError: A range goes beyond the cluster, or there is no such job in it.
    """

    cluster: Cluster
    ranges: Mapping[str, Size] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for job, size in self.ranges.items():
            there = len(self.cluster.jobs.get(job, ()))
            if size.most > there:
                raise ClusterError(
                    f"up to {size.most} {size.nouns}, and {there} in the cluster; give at most "
                    "these"
                )

    @functools.cached_property
    def is_fixed(self) -> bool:
        """Whether all places are needed."""
        return not any(map(self._may_lack, self._sizes))

    @functools.cached_property
    def _counts(self) -> Counter[str]:
        """How many places there are of each job, in the cluster's order."""
        return Counter(place.type for place in self.cluster.tasks_that_meet)

    @functools.cached_property
    def _sizes(self) -> dict[str, Size]:
        """Of each job: asked for all places of a large job, many times a second."""
        return {
            job: self.ranges.get(job, Size(count, count, nouns_of(job)))
            for job, count in self._counts.items()
        }

    def may_lack(self, place: Task) -> bool:
        """Whether the job goes on with fewer places of this kind."""
        return self._may_lack(place.type)

    def _may_lack(self, job: str) -> bool:
        return self._counts[job] > self._sizes[job].least

    def is_enough(self, places: Collection[Task]) -> bool:
        """Whether a generation may begin with these."""
        return all(_count(job, places) >= size.least for job, size in self._sizes.items())

    def is_full(self, places: Collection[Task]) -> bool:
        """Whether no other place could be taken in beside these."""
        return all(_count(job, places) >= size.most for job, size in self._sizes.items())

    def is_short_of(self, job: str, places: Collection[Task]) -> bool:
        """Whether these are too few of a job."""
        return _count(job, places) < self._sizes[job].least

    def has_room_for(self, place: Task, places: Collection[Task]) -> bool:
        """Whether a place could be taken in beside these."""
        return _count(place.type, places) < self._sizes[place.type].most

    def chosen(self, places: Collection[Task]) -> tuple[Task, ...]:
        """Those of these that take part, in the cluster's order."""
        chosen: list[Task] = []
        counts = Counter[str]()
        for place in self.cluster.tasks_that_meet:
            if place in places and counts[place.type] < self._sizes[place.type].most:
                counts[place.type] += 1
                chosen.append(place)
        return tuple(chosen)

    def told(self, places: Collection[Task], word: str, others: Collection[Task]) -> str:
        """How many of each job there are beside others, in words: "1 of 2 ps".

        Args:
            places: Some places.
            word: What stands between the two numbers.
            others: The others; jobs of which there are as many are left out, where some differ.
        """
        jobs = [job for job in self._sizes if self._may_lack(job)]
        differ = [job for job in jobs if _count(job, places) != _count(job, others)]
        return " and ".join(
            f"{_count(job, places)} {word} {_count(job, others)} {self._sizes[job].nouns}"
            for job in differ or jobs
        )

    def lacking(self, places: Collection[Task]) -> str:
        """Why these are not enough, in words.

        Args:
            places: Those that are left.
        """
        short = [job for job in self._sizes if self.is_short_of(job, places)]
        return " and ".join(
            f"{_count(job, places)} {self._sizes[job].nouns} are left where "
            f"{self._sizes[job].least} are the fewest"
            for job in short
        )


def _count(job: str, places: Collection[Task]) -> int:
    return sum(place.type == job for place in places)
