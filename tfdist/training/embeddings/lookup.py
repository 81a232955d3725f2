"""Looks rows of a sharded table up: each distinct one travels once, and its gradient too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.training.replica.sparse_gradients import once_each

__all__ = ["look_up", "unique_rows"]

_UNIQUE = "tfdist_unique_rows"


def look_up(
    shards: Sequence[keras.Variable], ids: tf.Tensor, size: int, apart: bool = False
) -> tf.Tensor:
    """Returns the rows of a table for ids; each distinct one travels once, in one message a shard.

    Args:
        shards: of the table, in order.
        ids: of any shape and integer type; negative ones count from the end.
        size: rows of the whole table.
        apart: every id travels, so that the gradient has one row for each of them.
    """
    count = len(shards)
    flat = _as_int32(tf.reshape(ids, [-1]))
    flat = tf.where(flat < 0, flat + size, flat)
    distinct, where = (flat, tf.range(tf.size(flat))) if apart else tf.unique(flat)
    name = None if apart else _UNIQUE
    if count == 1:
        found = _gather(shards[0], distinct, name)
    else:
        owner = tf.math.floormod(distinct, count)
        rows = tf.dynamic_partition(tf.math.floordiv(distinct, count), owner, count)
        order = tf.dynamic_partition(tf.range(tf.size(distinct)), owner, count)
        parts = [_gather(*pair, name) for pair in zip(shards, rows, strict=True)]
        found = tf.concat(parts, axis=0)
        where = tf.gather(tf.math.invert_permutation(tf.concat(order, axis=0)), where)
    columns = int(shards[0].shape[1])
    return tf.reshape(_expand(found, where), tf.concat([tf.shape(ids), [columns]], axis=0))


def unique_rows(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Returns a gradient in which each row occurs once.

    The gradient of one lookup is so already. Those of a layer that is called several times are
    joined by TensorFlow; they are summed here, on the worker.

    Args:
        gradient: of a shard, in the graph where the lookup was traced, or eager.
    """
    if _is_of_one_lookup(gradient.indices):
        return gradient
    return once_each(gradient)


def _gather(shard: keras.Variable, rows: tf.Tensor, name: str | None) -> tf.Tensor:
    rows = tf.identity(rows, name=name)
    with tf.device(shard.value.device):
        return tf.gather(shard.value, rows)


@tf.custom_gradient
def _expand(found: tf.Tensor, where: tf.Tensor) -> Any:
    """`tf.gather`, whose gradient is summed over duplicates rather than sparse."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        return tf.math.unsorted_segment_sum(upstream, where, tf.shape(found)[0]), None

    return tf.gather(found, where), gradient


def _as_int32(ids: tf.Tensor) -> tf.Tensor:
    if ids.dtype in (tf.int64, tf.uint32, tf.uint64):
        # Cut off at 32 bits, an id could be in range by chance.
        return tf.saturate_cast(tf.cast(ids, tf.int64), tf.int32)
    return tf.cast(ids, tf.int32)


def _is_of_one_lookup(indices: tf.Tensor) -> bool:
    if tf.executing_eagerly():
        return False
    op = indices.op
    while op.type == "Reshape" or (op.type == "Identity" and _UNIQUE not in op.name):
        op = op.inputs[0].op
    return op.type in ("Identity", "Unique")  # `clip` has summed it before
