"""A batch cut to the rows of this process' replicas; `strategies.layout` says which these are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tfdist.errors import DataError
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Count, Leaf, Nest
from tfdist.training.data.stream import Step, leaves

__all__ = ["Bounds", "all_to_one_replica", "bounds_of", "check_leaves", "make_step"]


class Bounds(NamedTuple):
    """The rows of this process's replicas in one global batch.

    Attributes:
        total: rows of the global batch: an integer, or an int64 tensor.
        starts: for each local replica, its first row.
        sizes: for each local replica, how many rows it has.
        rows: for each local replica, which rows it is given, `[low, high)`: its own, or one as a
            stand-in where it has none.
    """

    total: Count
    starts: Sequence[Count]
    sizes: Sequence[Count]
    rows: Sequence[tuple[Count, Count]]


def bounds_of(total: Count, layout: ReplicaLayout) -> Bounds:
    """Returns the rows of this process's replicas.

    Args:
        total: rows of the global batch: an integer, or an int64 tensor.
        layout: the replicas.
    """
    starts, sizes, rows = [], [], []
    for replica in layout.local_replicas:
        start, stop = layout.bounds(total, replica)
        starts.append(start)
        sizes.append(stop - start)
        # A replica without rows gets one as a stand-in; its share of 0 makes it count nothing.
        rows.append((start, _most(stop, start + 1)))
    return Bounds(total, starts, sizes, rows)


def make_step(parts: Sequence[Nest], bounds: Bounds, fingerprint: tf.Tensor) -> Step:
    """Returns the step of these parts of a batch, one for each local replica."""
    sizes, total = tf.cast(bounds.sizes, tf.int64), tf.cast(bounds.total, tf.int64)
    return Step(
        parts=tuple(parts),
        shares=tf.cast(sizes / tf.maximum(total, 1), tf.float64),
        starts=tf.cast(bounds.starts, tf.int64),
        sizes=sizes,
        total=total,
        fingerprint=fingerprint,
    )


def all_to_one_replica(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turns global batches into `Step`s of one replica, without any work for a batch."""
    check_leaves(leaves(dataset.element_spec))

    def always(value: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(value).repeat()

    unasked = tf.constant(-1, tf.int64)
    return tf.data.Dataset.zip(
        Step(
            parts=(dataset,),
            shares=always(tf.ones([1], tf.float64)),
            starts=always(tf.zeros([1], tf.int64)),
            sizes=always(unasked[None]),
            total=always(unasked),
            fingerprint=always(tf.zeros((), tf.int64)),
        )
    )


def check_leaves(there: Sequence[Leaf]) -> None:
    """Checks the tensors of a batch, or their specs."""
    if not there:
        raise DataError("the dataset's elements hold no tensors: nothing can be trained on them")
    for leaf in there:
        if leaf.shape.rank == 0:
            raise DataError(
                "an element of the dataset holds a scalar, but every tensor needs the batch as its "
                "first dimension: batch the dataset with .batch(global_batch_size)"
            )


def _most(a: Count, b: Count) -> Count:
    return max(a, b) if isinstance(a, int) else tf.maximum(a, b)
