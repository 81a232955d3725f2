"""Workers that bring their own data: `fit(lambda input_context: dataset)`.

As with `tf.distribute.Strategy.distribute_datasets_from_function`, the function is called once on
every worker with a `tf.distribute.InputContext` and returns that worker's part of the data, batched
by the *replica*: each of its batches goes to one replica. The workers tell each other the sizes
before they run a chunk, so every example weighs the same wherever it is, and a worker that runs out
of data goes on without examples until the last one has finished.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TypeAlias, TypeGuard

import numpy as np
import tensorflow as tf

from tfdist.errors import DataError
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Data, Nest
from tfdist.training.data.stream import (
    AllGatherNumbers,
    Step,
    Stream,
    count_rows,
    leaves,
    map_leaves,
)

__all__ = ["InputFunction", "PerWorkerData", "dataset_of", "is_input_function"]

InputFunction: TypeAlias = Callable[[tf.distribute.InputContext], tf.data.Dataset]
"""Returns a worker's own part of the data."""


class PerWorkerData(Stream):
    """The data of one `fit` or `evaluate`, a stream of its own on every worker.

    Args:
        layout: the replicas.
        function: returns this worker's `tf.data.Dataset` for a `tf.distribute.InputContext`.
        steps: the user's `steps_per_epoch`; None goes on until every worker has run out.
    """

    def __init__(
        self, layout: ReplicaLayout, function: InputFunction, steps: int | None = None
    ) -> None:
        super().__init__(layout, steps)
        context = tf.distribute.InputContext(
            num_input_pipelines=layout.workers,
            input_pipeline_id=layout.worker,
            num_replicas_in_sync=layout.replicas,
        )
        self._dataset = dataset_of(function, context)

    @property
    def batch_size(self) -> int | None:
        """Unknown: every worker chooses its own."""
        return None

    @property
    def may_leave_replicas_out(self) -> bool:
        """True: some worker will have fewer examples than the others."""
        return self.layout.replicas > 1

    def sample_batch(self) -> Nest:
        """Specs of one replica's batch."""
        return self._dataset.element_spec

    @property
    def step_spec(self) -> Step:
        """Specs of every step."""
        local = self.layout.local
        of_each = tf.TensorSpec([local], tf.int64)
        return Step(
            parts=(self._dataset.element_spec,) * local,
            shares=tf.TensorSpec([local], tf.float64),
            starts=of_each,
            sizes=of_each,
            total=tf.TensorSpec([], tf.int64),
            fingerprint=tf.TensorSpec([], tf.int64),
        )

    @property
    def source(self) -> tf.data.Dataset:
        """The dataset that the stream is made of."""
        return self._dataset

    def make_iterator(self, skip: int = 0) -> tf.data.Iterator:
        """Begins this worker's stream anew, after its first batches."""
        return iter(self._dataset.skip(skip).prefetch(2) if skip else self._dataset.prefetch(2))

    def take(self, count: int, all_gather: AllGatherNumbers) -> list[Step]:
        """Takes the next steps, until nobody has any data left."""
        local = self.layout.local
        while len(self._pulled) < count * local:
            batch = next(self.iterator, None)
            if batch is None:
                break
            self._pulled.append(batch)
        sizes = [count_rows(batch) for batch in self._pulled[: count * local]]
        table = all_gather([*sizes, *[0] * (count * local - len(sizes))])
        totals = table.reshape(self.layout.workers, count, local).sum(axis=(0, 2)).astype(int)
        run = int((totals > 0).sum())
        self.ended = run < count
        batches = self._pulled[: run * local]
        self._pulled = self._pulled[run * local :]
        self.took(run, len(batches))
        batches += [self._stand_in()] * (run * local - len(batches))
        sizes += [0] * (run * local - len(sizes))
        return [
            self._step(batches[i * local : (i + 1) * local], sizes[i * local :], int(totals[i]))
            for i in range(run)
        ]

    def _step(self, batches: list[Nest], sizes: list[int], total: int) -> Step:
        own = np.asarray(sizes[: self.layout.local], np.int64)
        return Step(
            parts=tuple(batches),
            shares=tf.constant(own / total, tf.float64),
            starts=tf.zeros_like(own),
            sizes=tf.constant(own),
            total=tf.constant(total, tf.int64),
            fingerprint=tf.zeros((), tf.int64),
        )

    def _stand_in(self) -> Nest:
        """One row of zeros, for a replica that has run out of data; its share is 0."""

        def zeros(spec: tf.TypeSpec) -> tf.Tensor:
            if not isinstance(spec, tf.TensorSpec):
                raise DataError(
                    "a worker ran out of data before the others, and its dataset holds ragged or "
                    "sparse tensors, for which there is no stand-in: .repeat() the dataset and "
                    "give steps_per_epoch"
                )
            return tf.zeros([size or 1 for size in spec.shape], spec.dtype)

        return map_leaves(zeros, self._dataset.element_spec)


def is_input_function(x: Data) -> TypeGuard[InputFunction]:
    """Whether `x` is a function of `tf.distribute.InputContext` (and no dataset of any kind)."""
    return inspect.isroutine(x) or isinstance(x, functools.partial)


def dataset_of(function: InputFunction, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Returns what a function of `tf.distribute.InputContext` returns.

    Raises:
        DataError: it is no batched dataset.
    """
    dataset = function(context)
    if not isinstance(dataset, tf.data.Dataset):
        raise DataError(
            "the function of tf.distribute.InputContext returned a "
            f"{type(dataset).__name__}; it must return a tf.data.Dataset, batched by "
            "input_context.get_per_replica_batch_size(global_batch_size)"
        )
    for leaf in leaves(dataset.element_spec):
        if leaf.shape.rank == 0:
            raise DataError(
                "the dataset holds scalars, but every tensor needs the batch as its first "
                "dimension: batch it by "
                "input_context.get_per_replica_batch_size(global_batch_size)"
            )
    return dataset
