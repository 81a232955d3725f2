"""Workers with parameter servers, as a way to train. Pure."""

from __future__ import annotations

import dataclasses

from tfdist.given_numbers import is_count
from tfdist.scaling.hierarchy import Hierarchy
from tfdist.scaling.in_step import check_shares
from tfdist.scaling.link import Link
from tfdist.scaling.server_job import ServerJob
from tfdist.scaling.step_work import StepWork

__all__ = ["ParameterServers"]


@dataclasses.dataclass(frozen=True)
class ParameterServers:
    """A job with servers, and perhaps one slow worker.

    With backup workers it goes in step: the rows of all workers' batches are cut into as many parts
    as there are workers besides those (Chen et al., "Revisiting distributed synchronous SGD",
    2016), all of an update, for which a slow one is not waited.

    Attributes:
        hosts: of workers and servers; all tasks of a host speak at once, and share its link.
        workers_each: workers for one server, at least 1; a job has one server at least.
        staleness: see `ServerJob`; None is that nobody waits, 0 that all do.
        slow_by: how many times as long as the others one worker takes, at least 1.
        backups: workers in step without which an update is made, at least 1; 0 is another job.

    Raises:
        ValueError: one is no such number.
    """

    hosts: Hierarchy
    workers_each: int = 2
    staleness: int | None = None
    slow_by: float = 1.0
    backups: int = 0

    def __post_init__(self) -> None:
        if not is_count(self.workers_each):
            raise ValueError(f"workers_each={self.workers_each!r}: give a number of at least 1")
        if not is_count(self.backups, 0):
            raise ValueError(f"backups={self.backups!r}: give workers, at least 0")
        check_shares(0.0, self.slow_by)
        self.job(StepWork(0.0, 0.0), 1)

    def servers(self, workers: int) -> int:
        """How many servers so many workers have, besides themselves."""
        return max(1, workers // self.workers_each)

    def link(self, workers: int) -> Link:
        """What each task has of its host's link, in a job of so many workers."""
        within, between = self.hosts.within, self.hosts.between
        tasks = workers + self.servers(workers)
        if self.hosts.hosts(tasks) == 1:
            return within
        share = Link(between.latency, between.bandwidth / self.hosts.tasks)
        return share if self.hosts.tasks == 1 else share.slower(within)

    def job(self, work: StepWork, workers: int) -> ServerJob:
        """The servers of so many workers."""
        return ServerJob(
            self.servers(workers),
            work.size,
            self.link(workers),
            work.update,
            staleness=self.staleness,
        )

    def seconds(self, work: StepWork, workers: int) -> float:
        """Seconds in which so many workers train as many batches."""
        if self.backups:
            return self._seconds_in_step(work, workers)
        pace = work.compute + work.other
        paces = [pace * self.slow_by if workers > 1 else pace] + [pace] * (workers - 1)
        return workers / self.job(work, workers).run(paces).steps_a_second

    def _seconds_in_step(self, work: StepWork, workers: int) -> float:
        parts = max(1, workers - self.backups)
        pace = work.compute * workers / parts + work.other
        once = dataclasses.replace(work, update=work.update / parts)  # the servers update once
        job = dataclasses.replace(self.job(once, workers), staleness=0)
        return parts / job.run([pace] * parts).steps_a_second
