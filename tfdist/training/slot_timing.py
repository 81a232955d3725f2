"""`tfdist.pipeline.measure`: when each slot of a real step begins and ends."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf

from tfdist.errors import PlugError
from tfdist.schedules.schedule import Slot
from tfdist.schedules.timings import Timing, Timings
from tfdist.structures import Data, Nest
from tfdist.training.data.global_batches import as_tensors
from tfdist.training.pipelined.pipeline_programs import PipelinePrograms
from tfdist.training.plugged import Plugged

__all__ = ["measure"]


def measure(model: keras.Model, batch: Iterable[Data], steps: int = 3) -> Timings:
    """Takes some training steps on one batch, and says when the slots of the last began and ended.

    The steps are real: the weights change, and metrics count them. Its clock stamps hold the slots
    a little more apart than `fit` does. Slots that were done in one go are given equal times.

    Args:
        model: a compiled model that was plugged under a pipeline strategy.
        batch: `(x, y)` or `(x, y, sample_weight)`: one global batch.
        steps: how many to take; the first ones warm up.

    Returns:
        The timings, for `tfdist.pipeline.draw`.

    Raises:
        PlugError: the model is not plugged, or not under a pipeline.
    """
    plugged = Plugged.of(model)
    if plugged is None:
        raise PlugError("the model is not plugged: tfdist.plug(model) before measuring it")
    data = as_tensors(tuple(batch))
    family = plugged._prepared(data).family
    programs = getattr(family, "programs", None)
    if not isinstance(programs, PipelinePrograms):
        raise PlugError(
            "measure is for models of a pipeline: make the model under tfdist.strategy('pipeline')"
        )
    order: list[tuple[int, tuple[Slot, ...]]] = []

    def step(data: Nest) -> list[tuple[tf.Tensor, tf.Tensor]]:
        def run() -> list[tuple[tf.Tensor, tf.Tensor]]:
            outcome = programs.take_step("train", data, timed=True)
            order[:] = outcome.slots
            return outcome.times

        return family.strategy.run(run)

    function = tf.function(step, autograph=False)
    with family.working():
        times = [function(data) for _ in range(max(1, steps))][-1]
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
    tasks = tuple(plan.tasks[stage.segments[0].task] for stage in programs.executor.stages)
    return Timings(slots, tasks)
