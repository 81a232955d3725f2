"""Moves many small tensors between replicas in one collective per dtype, in place of one each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfdist.compat import patches
from tfdist.structures import T

__all__ = ["broadcast_from_first", "sum_by_dtype", "sum_over_replicas"]


def sum_by_dtype(values: T, options: object = None) -> T:
    """Sums a structure over all replicas, by TensorFlow's own all-reduce, one call for each dtype.

    Call it in a replica context, on every replica.

    TensorFlow's all-reduce lays its values end to end in a graph, whatever their dtypes, and so
    fails with several: LoRA's kernels are float32 in a model of any other dtype.

    Args:
        values: tensors and sparse gradients of any dtypes.
        options: a `tf.distribute.experimental.CommunicationOptions`; None is TensorFlow's default.

    Returns:
        The sums, in the structure of the values.
    """
    context, add = tf.distribute.get_replica_context(), tf.distribute.ReduceOp.SUM
    add_up = functools.partial(patches.original("all_reduce"), context, add, options=options)
    flat = tf.nest.flatten(values, expand_composites=False)
    dtypes = dict.fromkeys(one.dtype for one in flat)
    if len(dtypes) < 2:
        total: T = add_up(values)
        return total
    sums = dict[int, Any]()
    for dtype in dtypes:
        places = [i for i, one in enumerate(flat) if one.dtype == dtype]
        sums |= zip(places, add_up([flat[i] for i in places]), strict=True)
    whole: T = tf.nest.pack_sequence_as(values, [sums[i] for i in range(len(flat))])
    return whole


def sum_over_replicas(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Sums each tensor over all replicas; call it in a replica context, on every replica.

    Args:
        values: tensors of any shapes and dtypes, the same on every replica.

    Returns:
        The sums, in the same order and shapes.
    """
    context = tf.distribute.get_replica_context()
    sums: list[tf.Tensor] = list(values)
    for dtype in dict.fromkeys(value.dtype for value in values):
        places = [i for i, value in enumerate(values) if value.dtype == dtype]
        flat = tf.concat([tf.reshape(values[i], [-1]) for i in places], 0)
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, flat)
        sizes = [tf.size(values[i]) for i in places]
        for i, part in zip(places, tf.split(total, sizes, num=len(sizes)), strict=True):
            sums[i] = tf.reshape(part, tf.shape(values[i]))
            sums[i].set_shape(values[i].shape)
    return sums


def broadcast_from_first(
    values: Sequence[tf.Tensor],
    add_up: Callable[[list[tf.Tensor]], list[tf.Tensor]] = sum_over_replicas,
) -> list[tf.Tensor]:
    """Gives every replica the first replica's values; call it in a replica context."""
    context = tf.distribute.get_replica_context()
    is_first = tf.equal(context.replica_id_in_sync_group, 0)
    carried = [tf.cast(v, tf.int32) if v.dtype == tf.bool else v for v in values]
    sums = add_up([tf.where(is_first, v, tf.zeros_like(v)) for v in carried])
    return [tf.cast(total, v.dtype) for total, v in zip(sums, values, strict=True)]
