"""Prediction over several replicas: every example once, the outputs in the data's order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Nest, Traced
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.data.stream import AllGatherNumbers, Step, without_optionals
from tfdist.training.loop.chunking import ChunkLength
from tfdist.training.loop.prediction import Outputs, dense_rows
from tfdist.training.replica import ReplicaStep, Rows, one_machine_semantics, replica_step
from tfdist.training.tracing import traced

__all__ = ["ReplicaPrediction", "spread"]


def spread(
    strategy: tf.distribute.Strategy, layout: ReplicaLayout, values: Sequence[Nest]
) -> tf.distribute.DistributedValues:
    """Gives each replica of this process its entry of `values`."""

    def value(context: tf.distribute.ValueContext) -> Nest:
        return values[context.replica_id_in_sync_group - layout.first]

    return strategy.experimental_distribute_values_from_function(value)


class ReplicaPrediction:
    """Predicts on the replicas of one plugged model.

    Args:
        model: a built model.
        strategy: in whose scope it was made.
        layout: its replicas.
        all_gather: shows this worker's numbers to all.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        all_gather: AllGatherNumbers,
    ) -> None:
        self._model = model
        self._strategy = strategy
        self._layout = layout
        self._all_gather = all_gather
        self._one: Callable[..., tuple[Nest, ...]] | None = None
        self._gather_function: Traced | None = None

    def chunks(
        self, data: GlobalBatches, chunk_length: ChunkLength
    ) -> Generator[Outputs, None, None]:
        """Yields what predicts the next batches, in the data's order; see `Prediction`."""
        step = 0
        while (left := data.left(step)) != 0 and not self._model.stop_predicting:
            most = chunk_length.next_length(left) if chunk_length.every else min(left or 32, 32)
            steps = data.take(most, self._all_gather)
            if not steps:
                return
            yield functools.partial(self._outputs_of, steps, step)
            step += len(steps)

    def _outputs_of(self, steps: list[Step], first: int) -> tuple[int, int, Nest]:
        return first, len(steps), self._predict_steps(steps)

    def batch(self, step: Step) -> Nest:
        """Returns the outputs for one global batch."""
        return self._predict_steps([step])

    def _predict_steps(self, steps: list[Step]) -> Nest:
        """Predicts some global batches: this process's rows here, then everybody's in order."""
        if self._layout.replicas == 1:  # which has all rows, uncounted
            parts = [tf.nest.map_structure(dense_rows, self._predict_one(s)[0]) for s in steps]
            return tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
        rows: list[Nest] = []
        positions: list[np.ndarray] = []
        offset = 0
        for step in steps:
            outputs = self._predict_one(step)
            starts, sizes = step.starts.numpy(), step.sizes.numpy()
            for output, start, size in zip(outputs, starts, sizes, strict=True):
                rows.append(tf.nest.map_structure(lambda t, n=size: dense_rows(t)[:n], output))
                positions.append(offset + start + np.arange(size))
            offset += int(step.total)
        local = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *rows)
        order = np.concatenate(positions)
        if self._layout.workers > 1:
            gathered = self._gather([order, *tf.nest.flatten(local)])
            order, local = gathered[0], tf.nest.pack_sequence_as(local, gathered[1:])
        by_position = np.argsort(order, kind="stable")
        return tf.nest.map_structure(lambda array: array[by_position], local)

    def _predict_one(self, step: Step) -> list[Nest]:
        """Runs `predict_step` on every replica of this process; returns each one's outputs."""
        if self._one is None:

            def one(
                parts: tuple[Nest, ...], starts: tf.Tensor, sizes: tf.Tensor, total: tf.Tensor
            ) -> tuple[Nest, ...]:
                def on_replica(data: Nest, start: tf.Tensor, size: tf.Tensor) -> Nest:
                    share = tf.ones((), tf.float64)
                    rows = Rows.of(data, start, size, total)
                    with replica_step(ReplicaStep(self._strategy, share, False, rows=rows)):
                        return self._model.predict_step(without_optionals(data))

                values = (parts, tf.unstack(starts), tf.unstack(sizes))
                with one_machine_semantics(self._strategy):
                    outputs = self._strategy.run(
                        on_replica,
                        args=tuple(spread(self._strategy, self._layout, v) for v in values),
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
                lambda values: self._strategy.run(on_replica, args=(values,)), reduce_retracing=True
            )
        gathered = self._gather_function([tf.convert_to_tensor(array) for array in arrays])
        results = [self._strategy.experimental_local_results(value)[0] for value in gathered]
        return [result.numpy() for result in results]
