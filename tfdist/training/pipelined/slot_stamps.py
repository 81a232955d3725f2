"""When each slot of a real step of a pipeline begins and ends."""

from __future__ import annotations

import tensorflow as tf

from tfdist.errors import PlugError
from tfdist.schedules.schedule import Slot
from tfdist.schedules.timings import Timing, Timings
from tfdist.structures import Nest
from tfdist.training.loop.family import Family
from tfdist.training.pipelined.pipeline_programs import PipelinePrograms

__all__ = ["slot_times"]


def slot_times(family: Family, batch: Nest, steps: int) -> Timings:
    """Takes some training steps, and says when the slots of the last began and ended.

    Args:
        family: what takes the steps of a model.
        batch: one global batch, as tensors.
        steps: how many to take; the first ones warm up.

    Raises:
        PlugError: the family is no pipeline.
    """
    programs = getattr(family, "programs", None)
    if not isinstance(programs, PipelinePrograms):
        raise PlugError(
            "measure is for models of a pipeline: make the model under tfdist.strategy('pipeline')"
        )
    order: list[tuple[int, tuple[Slot, ...]]] = []

    def step(data: Nest) -> list[tuple[tf.Tensor, tf.Tensor]]:
        def run() -> list[tuple[tf.Tensor, tf.Tensor]]:
            outcomes = programs.timed_step(data)
            order[:] = [slots for outcome in outcomes for slots in outcome.slots]
            return [times for outcome in outcomes for times in outcome.times]

        return family.strategy.run(run)

    function = tf.function(step, autograph=False)
    with family.working():
        times = [function(batch) for _ in range(max(1, steps))][-1]
    seconds = [(float(begin), float(end)) for begin, end in times]
    first = min(begin for begin, _ in seconds)
    slots = tuple(
        Timing(
            slot,
            begin - first + (end - begin) * i / len(together),
            begin - first + (end - begin) * (i + 1) / len(together),
            replica,
        )
        for (replica, together), (begin, end) in zip(order, seconds, strict=True)
        for i, slot in enumerate(together)
    )
    plan = family.strategy.plan
    tasks = tuple(plan.names_of(stage.segments[0].task) for stage in programs.executor.stages)
    return Timings(slots, tasks)
