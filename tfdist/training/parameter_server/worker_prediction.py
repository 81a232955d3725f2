"""Prediction by the workers of a parameter-server job: the outputs in the data's order."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfdist.compat import keras_weights
from tfdist.errors import DataError
from tfdist.strategies import server_variables
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.data.stream import Step, without_optionals
from tfdist.training.loop.chunking import ChunkLength
from tfdist.training.loop.prediction import Outputs
from tfdist.training.parameter_server.batch_messages import (
    PackedBatches,
    batch_of,
    key_of,
    pack,
    specs_of,
)
from tfdist.training.parameter_server.work_queue import WorkQueue
from tfdist.training.tracing import traced

if TYPE_CHECKING:
    from tfdist.training.parameter_server.asynchronous import Asynchronous

__all__ = ["WorkerPrediction"]

_BATCHES = 32  # in one message, at most


class WorkerPrediction:
    """Predicts on the workers of one plugged model.

    Args:
        family: the model's.
    """

    def __init__(self, family: Asynchronous) -> None:
        self._family = family
        self._model = family.model
        self._functions: dict[Any, Any] = {}

    def chunks(
        self, data: GlobalBatches, chunk_length: ChunkLength
    ) -> Generator[Outputs, None, None]:
        """Yields what waits for the next outputs, of whichever worker; see `Prediction`."""
        queue = WorkQueue(self._family.coordinator)
        given, more = 0, True
        while more or len(queue):
            while more and len(queue) < 2 * self._family.workers:
                count = min(chunk_length.every or _BATCHES, self._share(data.left(given)))
                steps = data.take(count, self._family.all_gather) if count else []
                more = bool(steps) and not self._model.stop_predicting
                if steps:
                    self._give([s.parts[0] for s in steps], queue, (given, len(steps)))
                given += len(steps)
            if len(queue):
                yield functools.partial(self._wait, queue)

    def _wait(self, queue: WorkQueue) -> tuple[Any, int, Any]:
        ((start, count), number), value = self._family.wait(queue)
        outputs = tf.nest.map_structure(np.asarray, value)
        return (start, number), count if number == 0 else 0, outputs

    def batch(self, step: Step) -> Any:
        """Returns the outputs for one batch."""
        queue = WorkQueue(self._family.coordinator)
        self._give([step.parts[0]], queue, (0, 1))
        return self._wait(queue)[2]

    def _share(self, left: int | None) -> int:
        """A part of what is left, such that every worker gets some."""
        return _BATCHES if left is None else -(-left // (2 * self._family.workers))

    def _give(self, batches: Sequence[Any], queue: WorkQueue, tag: Any) -> None:
        """Hands out batches; their outputs come with `tag` and their number."""
        for number, rows in enumerate(pack(batches)):
            specs = specs_of(rows)
            key = key_of(specs)
            if key not in self._functions:
                function = traced(self._predict_rows)
                self._functions[key] = function.get_concrete_function(specs)
            queue.start(self._functions[key], (rows,), tag=(tag, number))

    def _predict_rows(self, rows: PackedBatches) -> Any:
        """The outputs for some batches, one after the other; a graph for a worker."""
        variables = self._family.fetched
        values = server_variables.fetch(variables)

        @tf.function(autograph=False)
        def one(rows: PackedBatches, number: tf.Tensor, values: Any) -> Any:
            held = keras_weights.held(list(zip(variables, values, strict=True)))
            with held, tf.device(self._family.device):
                return self._model.predict_step(without_optionals(batch_of(rows, number)))

        specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), values)
        outputs = one.get_concrete_function(
            specs_of(rows), tf.TensorSpec([], tf.int32), specs
        ).structured_outputs
        for output in tf.nest.flatten(outputs):
            if not isinstance(output, tf.Tensor | tf.TensorSpec) or output.shape.rank == 0:
                raise DataError(
                    "predict_step returned something other than dense tensors with the batch as "
                    "their first dimension, so that outputs of several workers cannot be put in "
                    "order: end the model with a layer that makes it dense"
                )
        arrays = [
            tf.TensorArray(output.dtype, 0, dynamic_size=True, infer_shape=False)
            for output in tf.nest.flatten(outputs)
        ]

        def body(number: tf.Tensor, arrays: Any) -> Any:
            flat = tf.nest.flatten(one(rows, number, values))
            return number + 1, [a.write(number, t) for a, t in zip(arrays, flat, strict=True)]

        _, arrays = tf.while_loop(
            lambda number, _: number < tf.size(rows.sizes),
            body,
            (tf.constant(0), arrays),
            parallel_iterations=1,
        )
        return tf.nest.pack_sequence_as(outputs, [array.concat() for array in arrays])
