"""Pipelines beside each other: stages over some tasks, replicas of them over the others. Pure.

A replica of K tasks trains K batches in M microbatches, so that a task has as much to do as one
that trains a batch by itself. When its step is over (`schedules.simulation`), the tasks of each
stage sum their part of the gradients, all stages at the same time. (Huang et al., "GPipe:
efficient training of giant neural networks using pipeline parallelism", 2019; Narayanan et al.,
"Efficient large-scale language model training on GPU clusters using Megatron-LM", 2021, section 3.)
"""

from __future__ import annotations

import dataclasses

from tfdist.scaling.hierarchy import Hierarchy, HostRing
from tfdist.scaling.ring import Ring
from tfdist.scaling.step_work import StepWork
from tfdist.schedules.schedule import schedule, stages_a_task
from tfdist.schedules.simulation import SlotSeconds, simulate

__all__ = ["PipelineReplicas"]


@dataclasses.dataclass(frozen=True)
class PipelineReplicas:
    """Pipeline and data parallelism together; the stages are taken as equal.

    Attributes:
        tasks: of one replica, K; 1 is data parallelism alone.
        microbatches: M, that a replica's rows are cut into.
        exchange: how each stage's gradients are summed between replicas.
        schedule: one of `tfdist.pipeline.SCHEDULES`.
        hand_over: seconds until the next task has what a slot has computed, at least 0.

    Raises:
        StrategyError: there is no such schedule, or a number does not fit it.
    """

    tasks: int
    microbatches: int
    exchange: Ring | HostRing | Hierarchy
    schedule: str = "1f1b"
    hand_over: float = 0.0

    def __post_init__(self) -> None:
        schedule(self.schedule, self.stages, self.microbatches, self.tasks)
        SlotSeconds(hand_over=self.hand_over)

    @property
    def stages(self) -> int:
        """Of all tasks of a replica."""
        return self.tasks * stages_a_task(self.schedule)

    def span(self, work: StepWork) -> float:
        """Seconds from the first slot of a replica's step to the end of the last one."""
        if self.tasks == 1 or not work.compute:
            return work.compute
        # Forward, gradients of what came in, gradients of weights: one product each.
        part = work.compute * self.tasks / (3 * self.microbatches * self.stages)
        seconds = SlotSeconds(part, part, part, self.hand_over)
        return simulate(
            self.schedule, self.stages, self.microbatches, seconds, tasks=self.tasks
        ).seconds

    def seconds(self, work: StepWork, workers: int) -> float:
        """Seconds in which so many tasks train as many batches.

        Raises:
            ValueError: the workers are not a multiple of a replica's tasks.
        """
        if workers < 1 or workers % self.tasks:
            raise ValueError(
                f"{workers} workers for replicas of {self.tasks} tasks: give a multiple of "
                f"{self.tasks}"
            )
        summed = self.exchange.seconds(workers // self.tasks, work.size / self.tasks)
        return self.span(work) + work.update / self.tasks + work.other + summed
