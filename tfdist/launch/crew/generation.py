"""A generation of a job: which places take part, and the tasks that they are in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tfdist.cluster import Cluster, Task
from tfdist.rendezvous.messages import Message

__all__ = ["Generation"]


@dataclass(frozen=True)
class Generation:
    """Some places of a job, numbered anew without gaps.

    Attributes:
        number: From 1; 0 before the first.
        members: The places that take part, in the cluster's order.
        jobs: Their cluster.
        tasks: Which task of it each place is.
    """

    number: int = 0
    members: tuple[Task, ...] = ()
    jobs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tasks: Mapping[Task, str] = field(default_factory=dict)

    def next(self, cluster: Cluster, members: Sequence[Task]) -> Generation:
        """The one that follows.

        Args:
            cluster: All places, and where they are.
            members: Those that take part.
        """
        jobs: dict[str, list[str]] = {}
        tasks = {}
        for place in members:
            addresses = jobs.setdefault(place.type, [])
            tasks[place] = f"{place.type}:{len(addresses)}"
            addresses.append(cluster.address(place))
        if "evaluator" in cluster.jobs:
            jobs["evaluator"] = list(cluster.jobs["evaluator"])
        return Generation(self.number + 1, tuple(members), jobs, tasks)

    def start(self, places: Sequence[Task], used: int, again: Sequence[Task]) -> Message | None:
        """What has a launcher start its tasks; None where it has none.

        Args:
            places: The launcher's.
            used: How many restarts the job has used.
            again: The places that had been lost, and take part again.
        """
        own = {str(place): self.tasks[place] for place in places if place in self.tasks}
        if not own:
            return None
        return {
            "say": "start",
            "generation": self.number,
            "jobs": self.jobs,
            "tasks": own,
            "used": used,
            "again": [str(place) for place in again],
        }
