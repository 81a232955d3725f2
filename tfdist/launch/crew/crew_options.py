"""What a job whose launchers decide together is made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfdist import process
from tfdist.cluster import Cluster, Task
from tfdist.cluster.crew_size import DEFAULT_SETTLE, Size
from tfdist.errors import ClusterError
from tfdist.launch.crew.crew_job import CrewJob
from tfdist.launch.crew.foreman import Foreman
from tfdist.launch.crew.foreman_link import ForemanLink, LinkHere, LinkThere, join_message
from tfdist.launch.crew.front_door import meeting_place
from tfdist.launch.crew.strength import Strength
from tfdist.launch.job import Job
from tfdist.launch.plan import JobPlan
from tfdist.launch.restarts import DEFAULT_RESTARTS, Restarts

__all__ = ["CrewOptions"]


@dataclass(frozen=True)
class CrewOptions:
    """How the launchers of a job decide.

    Attributes:
        ranges: How many workers, and parameter servers, there may be, by job; all of the cluster,
            and no fewer, of those that are not in it.
        max_restarts: How many restarts the job has; None for 3 where its size may change, or where
            it has parameter servers, else 0.
        settle: Seconds in which workers that come are waited for, and after which a lost one is
            started again.
        port: Where the launchers meet, at the chief's host; None for the port after the highest of
            the tasks there.
        patience: Seconds for which it is waited for missing launchers; None for the time that
            tasks wait for each other.

    Raises:
        ClusterError: A number is out of range.
    """

    ranges: Mapping[str, Size] = field(default_factory=dict)
    max_restarts: int | None = None
    settle: float = DEFAULT_SETTLE
    port: int | None = None
    patience: float | None = None

    def __post_init__(self) -> None:
        if self.settle < 0:
            raise ClusterError(f"settle of {self.settle:g} s; give 0 or more")
        if self.port is not None and not 0 < self.port < 65536:
            raise ClusterError(f"crew_port of {self.port}; give a port, 1 to 65535")

    def are_needed(self, cluster: Cluster, tasks: Sequence[Task]) -> bool:
        """Whether there is anything to decide together.

        Args:
            cluster: All places of the job.
            tasks: Those of this machine.
        """
        elsewhere = set(cluster.tasks) > set(tasks)
        restarts = elsewhere and bool(self.max_restarts)
        takes_part = any(one.type != "evaluator" for one in tasks)  # it works beside the others
        return takes_part and (bool(self.ranges) or restarts)

    def job(
        self,
        plan: JobPlan,
        cluster: Cluster,
        tasks: Sequence[Task],
        make: Callable[[Cluster, Sequence[Task]], JobPlan],
        **options: Any,
    ) -> Job:
        """Makes this machine's part of a job, with others to decide together where there is need.

        Args:
            plan: Of these tasks, as `make` has made it.
            cluster: All places of the job.
            tasks: Those of this machine; an evaluator runs beside them.
            make: Plans tasks of a cluster.
            options: As for `Job`.

        Raises:
            ClusterError: The ranges do not fit the cluster, or the port is taken.
        """
        if not self.are_needed(cluster, tasks):
            return Job(plan, max_restarts=self.max_restarts, **options)
        every = cluster.tasks_that_meet
        places = [task for task in tasks if task in every]
        strength = Strength(cluster, self.ranges)
        elastic = not strength.is_fixed
        restarts = Restarts.of(self.max_restarts, "ps" in cluster.jobs)
        if elastic and self.max_restarts is None:
            restarts = Restarts(DEFAULT_RESTARTS, "ps" in cluster.jobs, asked_for=False)
        patience = self.patience or process.rendezvous_timeout()
        alone = len(places) == len(every)
        where = None if alone else meeting_place(cluster, self.port)
        join = join_message(strength, places, restarts.most)
        link: ForemanLink
        if cluster.chief in places:
            foreman = Foreman(strength, restarts, self.settle, patience, time.monotonic())
            link = LinkHere(foreman, join, where, process.secret())
        else:
            assert where is not None
            link = LinkThere(where, join, patience, process.secret())
        beside = [task for task in tasks if task not in every]
        return CrewJob(plan, link, make, beside=beside, max_restarts=restarts.most, **options)
