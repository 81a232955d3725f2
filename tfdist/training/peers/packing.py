"""Moves tensors between replicas: small ones together, each dtype by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfdist.compat import patches, tf_collectives
from tfdist.structures import T
from tfdist.training.peers.buckets import in_buckets

__all__ = ["broadcast_from_first", "sum_by_dtype", "sum_over_replicas"]


def sum_by_dtype(values: T, options: object = None) -> T:
    """Sums a structure over all replicas, by TensorFlow's own all-reduces, each of one dtype.

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
    lanes = tf_collectives.lanes(context.strategy)
    sums = dict[int, Any]()
    for number, places in enumerate(_together(flat, lanes)):
        with tf_collectives.lane(number % lanes):
            sums |= zip(places, add_up([flat[i] for i in places]), strict=True)
    whole: T = tf.nest.pack_sequence_as(values, [sums[i] for i in range(len(flat))])
    return whole


def _together(flat: Sequence[Any], lanes: int) -> list[list[int]]:
    """Returns the places of what one all-reduce sums each time."""
    together = []
    for dtype in dict.fromkeys(one.dtype for one in flat):
        places = [i for i, one in enumerate(flat) if one.dtype == dtype]
        if lanes > 1:
            dense = [i for i in places if isinstance(flat[i], tf.Tensor)]
            counts = [flat[i].shape.num_elements() or 0 for i in dense]  # 0 where nobody knows yet
            buckets = in_buckets([count * dtype.size for count in counts])
            together += [[dense[i] for i in bucket] for bucket in buckets]
            places = [i for i in places if not isinstance(flat[i], tf.Tensor)]
        if places:
            together.append(places)
    return together


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
