"""What is known of a script before its run. Pure."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from tfdist.planning.pipeline_speed import PipelineSpeed
from tfdist.planning.predicted_step import PredictedStep
from tfdist.planning.server_speed import ServerSpeed
from tfdist.planning.shard_speed import ShardSpeed
from tfdist.planning.step_speed import StepSpeed
from tfdist.planning.task_memory import MemoryPlan, TaskMemory

__all__ = ["Plan", "gigabytes"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is known of a script before its run.

    Attributes:
        what: its command line.
        memory: of tasks.
        speed: of steps of workers in step.
        most: the largest number of workers that is looked at.
        limit: bytes that a task may take.
    """

    what: str
    memory: MemoryPlan
    speed: StepSpeed
    most: int
    limit: int

    def __post_init__(self) -> None:
        if self.most < 2 or self.limit < 1:
            raise ValueError(f"most={self.most}, limit={self.limit}: give 2 workers and a byte")

    @property
    def counts(self) -> list[int]:
        """The numbers of workers that are shown."""
        powers = [2**i for i in range(2, 10) if 2**i < self.most]
        return [1, 2, *powers, *([self.most] if self.most > 2 else [])]

    @property
    def tasks(self) -> list[TaskMemory]:
        """Every kind of task of every strategy."""
        in_step = [self.memory.workers(count) for count in self.counts]
        shared = [task for step in self.sharded for task in self.shares_of(step)]
        served = [] if self.memory.alone.no_servers else self.memory.servers(2)
        return [*in_step, *shared, *served, *self.memory.pipeline]

    @functools.cached_property
    def sharded(self) -> list[PredictedStep]:
        """A step of workers that keep a share of the optimizer each, where it has slots."""
        if self.memory.alone.no_shards or not self.memory.alone.slots:
            return []
        speed = ShardSpeed(self.speed, self.memory.alone)
        return [speed.step(count) for count in self.counts if count > 1]

    @functools.cached_property
    def pipelines(self) -> list[PredictedStep]:
        """A step of pipelines of 2 and more stages, as many as there are layers for."""
        speed = PipelineSpeed(self.speed.alone, self.memory.alone, self.speed.network)
        steps = [speed.step(count) for count in self.counts if count > 1]
        return [step for step in steps if step is not None]

    @functools.cached_property
    def served(self) -> list[PredictedStep]:
        """A step of each number of workers with one parameter server."""
        if self.memory.alone.no_servers:
            return []
        speed = ServerSpeed(self.speed.alone, self.memory.alone, self.speed.network)
        return [speed.step(count) for count in self.counts]

    @property
    def others(self) -> list[PredictedStep]:
        """All steps that are predicted, but those of more workers in step."""
        return [*self.sharded, *self.pipelines, *self.served]

    def gain(self, step: PredictedStep) -> float:
        """Examples a second of a step that is predicted, over those of one worker."""
        return step.examples_a_second * self.speed.alone.total / self.speed.rows

    def shares_of(self, step: PredictedStep) -> list[TaskMemory]:
        """The tasks of workers with a share of the optimizer each."""
        return [self.memory.sharded(step.workers)]

    def stages_of(self, step: PredictedStep) -> list[TaskMemory]:
        """The tasks of a pipeline."""
        return self.memory.stages(step.workers)

    def servers_of(self, step: PredictedStep) -> list[TaskMemory]:
        """The tasks of a job with parameter servers."""
        return self.memory.servers(step.workers)

    def fits(self, task: TaskMemory) -> bool:
        """Whether a task may take what it needs."""
        return task.total <= self.limit

    def fit_all(self, tasks: Sequence[TaskMemory]) -> bool:
        """Whether each of some tasks may."""
        return all(map(self.fits, tasks))


def gigabytes(size: float) -> str:
    """A size for people, as "1.24 GB" (10^9 bytes) or "38 MB"."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
