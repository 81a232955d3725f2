"""Prediction over several replicas: every example once, the outputs in the data's order."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.errors import DataError
from tfdist.training.data import SharedData
from tfdist.training.loop import Loop
from tfdist.training.replica import ReplicaStep, Rows, one_machine_semantics, replica_step
from tfdist.training.stream import Step
from tfdist.training.synchronous import Synchronous
from tfdist.training.tracing import traced

__all__ = ["Prediction"]


class Prediction:
    """Predicts on the replicas of one plugged model.

    Args:
        loop: the model's epoch loop.
        family: its family.
    """

    def __init__(self, loop: Loop, family: Synchronous) -> None:
        self._loop = loop
        self._model: keras.Model = loop.model
        self._family = family
        self._layout = loop.layout
        self._strategy = family.strategy
        self._one: Any = None
        self._gather_function: Any = None

    def predict(self, data: SharedData, callbacks: Any, verbose: Any) -> Any:
        """Returns the outputs for every example of `data`, in its order, on every worker."""
        wanted = {"steps": data.num_steps or -1, "rows of a global batch": data.batch_size or -1}
        pace, _, _ = self._loop.agree("predict", wanted, callbacks, ("predict",))
        callback_list = self._loop.callback_list(callbacks, verbose, epochs=1, steps=data.num_steps)
        self._model.stop_predicting = False
        callback_list.on_predict_begin()
        chunks: list[Any] = []
        data.begin_epoch(self._family.tell)
        step = 0
        while (left := data.left(step)) != 0:
            count = pace.next_length(left) if pace.every else min(left or 32, 32)
            steps = data.take(count, self._family.tell)
            if not steps:
                break
            callback_list.on_predict_batch_begin(step)
            chunks.append(self._predict_steps(steps))
            step += len(steps)
            callback_list.on_predict_batch_end(step - 1, {"outputs": chunks[-1]})
            if self._loop.stops("stop_predicting"):
                break
        data.end_epoch()
        callback_list.on_predict_end()
        if not chunks:
            raise DataError("predict was given no data: the dataset is empty")
        return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *chunks)

    def predict_batch(self, step: Step) -> Any:
        """Returns the outputs for one global batch."""
        return self._predict_steps([step])

    def _predict_steps(self, steps: list[Step]) -> Any:
        """Predicts some global batches: this process's rows here, then everybody's in order."""
        rows: list[Any] = []
        positions: list[np.ndarray] = []
        offset = 0
        for step in steps:
            outputs = self._predict_one(step)
            starts, sizes = step.starts.numpy(), step.sizes.numpy()
            for output, start, size in zip(outputs, starts, sizes, strict=True):
                rows.append(tf.nest.map_structure(lambda t, n=size: self._rows(t)[:n], output))
                positions.append(offset + start + np.arange(size))
            offset += int(step.total)
        local = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *rows)
        order = np.concatenate(positions)
        if self._layout.workers > 1:
            gathered = self._gather([order, *tf.nest.flatten(local)])
            order, local = gathered[0], tf.nest.pack_sequence_as(local, gathered[1:])
        by_position = np.argsort(order, kind="stable")
        return tf.nest.map_structure(lambda array: array[by_position], local)

    @staticmethod
    def _rows(output: Any) -> np.ndarray:
        if isinstance(output, tf.RaggedTensor | tf.SparseTensor):
            raise DataError(
                f"predict over several replicas returns dense outputs, but the model returns a "
                f"{type(output).__name__}: end the model with a layer that makes it dense "
                "(to_tensor), or predict in one process"
            )
        if output.shape.rank == 0:
            raise DataError(
                "predict_step returned a scalar, but every output needs the batch as its first "
                "dimension, so that the replicas' outputs can be put in order"
            )
        return output.numpy()

    def _predict_one(self, step: Step) -> list[Any]:
        """Runs `predict_step` on every replica of this process; returns each one's outputs."""
        if self._one is None:

            def one(parts: Any, starts: tf.Tensor, sizes: tf.Tensor, total: tf.Tensor) -> Any:
                def on_replica(data: Any, start: tf.Tensor, size: tf.Tensor) -> Any:
                    share = tf.ones((), tf.float32)
                    rows = Rows.of(data, start, size, total)
                    with replica_step(ReplicaStep(self._strategy, share, False, rows=rows)):
                        return self._model.predict_step(data)

                values = (parts, tf.unstack(starts), tf.unstack(sizes))
                with one_machine_semantics(self._strategy):
                    outputs = self._strategy.run(
                        on_replica, args=tuple(map(self._family.spread, values))
                    )
                flat = [
                    self._strategy.experimental_local_results(v) for v in tf.nest.flatten(outputs)
                ]
                return tuple(
                    tf.nest.pack_sequence_as(outputs, [values[i] for values in flat])
                    for i in range(self._layout.local)
                )

            eager = self._model.run_eagerly
            self._one = one if eager else traced(one, reduce_retracing=True)
        return list(self._one(step.parts, step.starts, step.sizes, step.total))

    def _gather(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Puts all workers' rows one after the other, worker by worker."""
        first = self._layout.first

        def on_replica(values: list[tf.Tensor]) -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            # What the process has once is brought by its first replica; the others bring no rows.
            bring = tf.cast(tf.equal(context.replica_id_in_sync_group, first), tf.int32)
            own = [value[: tf.shape(value)[0] * bring] for value in values]
            return [context.all_gather(value, axis=0) for value in own]

        if self._gather_function is None:
            self._gather_function = traced(
                lambda values: self._strategy.run(on_replica, args=(values,)),
                reduce_retracing=True,
            )
        gathered = self._gather_function([tf.convert_to_tensor(array) for array in arrays])
        results = [self._strategy.experimental_local_results(value)[0] for value in gathered]
        return [result.numpy() for result in results]
