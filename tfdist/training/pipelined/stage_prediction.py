"""Prediction by a pipeline: each batch through the stages, the outputs in the data's order."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.structures import Nest
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.data.stream import AllGatherNumbers, Step, without_optionals
from tfdist.training.loop.chunking import ChunkLength
from tfdist.training.loop.prediction import Outputs, dense_rows
from tfdist.training.pipelined.executor import Executor
from tfdist.training.pipelined.own_step import has_own_step, take_own_step
from tfdist.training.tracing import traced

__all__ = ["StagePrediction"]


class StagePrediction:
    """Predicts on the stages of one plugged model.

    Args:
        model: a built model.
        strategy: its pipeline.
        program: runs a batch through the stages.
        all_gather: shows this process's numbers to all that run the loop.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: PipelineStrategy,
        program: Executor,
        all_gather: AllGatherNumbers,
    ) -> None:
        self._model = model
        self._all_gather = all_gather

        def one(data: Nest) -> Nest:
            data = without_optionals(data)
            if has_own_step(model, "predict"):
                return take_own_step(program, "predict", data)[0]
            return program.run("predict", data).outputs

        self._function = traced(lambda data: strategy.run(one, args=(data,)), reduce_retracing=True)

    def chunks(
        self, data: GlobalBatches, chunk_length: ChunkLength
    ) -> Generator[Outputs, None, None]:
        """Yields what predicts the next batches; see `Prediction`.

        One by one, unless `steps_per_execution` says more: a batch alone keeps all stages busy.
        """
        first = 0
        while (left := data.left(first)) != 0 and not self._model.stop_predicting:
            steps = data.take(min(chunk_length.every or 1, left or 1), self._all_gather)
            if not steps:
                return
            yield functools.partial(self._outputs_of, steps, first)
            first += len(steps)

    def _outputs_of(self, steps: Sequence[Step], first: int) -> tuple[int, int, Nest]:
        parts = [self.batch(step) for step in steps]
        outputs = tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
        return first, len(steps), outputs

    def batch(self, step: Step) -> Nest:
        """Returns the outputs for one batch."""
        return tf.nest.map_structure(dense_rows, self._function(step.parts[0]))
