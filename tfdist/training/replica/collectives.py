"""Sums and gathers over the replicas that a model or a step writes itself."""

from __future__ import annotations

import tensorflow as tf

from tfdist.compat import patches
from tfdist.compat.patches import Patches
from tfdist.structures import T
from tfdist.training.replica.step import ReplicaStep, current

__all__ = ["PATCHES", "gather_batch", "own_rows"]


def gather_batch(value: T) -> T:
    """Returns the rows of all replicas, for losses that look across the batch.

    In a `train_step`, `test_step` or `compute_loss`, and in layers, a replica has its own rows of
    the global batch only. A contrastive loss, in-batch negatives or a codebook's counts that are
    computed from what this returns are those of one machine: gradients flow back to the replica
    that each row came from, and uneven parts are allowed.

    Args:
        value: a tensor `[rows, ...]`, or a structure of such; the same shape beyond the first
            dimension on every replica.

    Returns:
        The structure, with tensors `[rows of all replicas, ...]` in the order of the global batch,
        the same on every replica. The value itself where there is one replica, and outside of a
        step.

    Example:
        >>> def train_step(self, images):
        ...     with tf.GradientTape() as tape:
        ...         z = tfdist.gather_batch(self.encoder(images, training=True))
        ...         loss = contrastive_loss(z)

    Source: the gathered negatives of Chen et al., "A Simple Framework for Contrastive Learning of
    Visual Representations", 2020, section 2.2.
    """
    if current() is None:
        return value
    return tf.distribute.get_replica_context().all_gather(value, axis=0)


def own_rows(value: T) -> T:
    """Returns this replica's rows of what has all rows of the global batch.

    The counterpart of `gather_batch`: for partners that were picked among all rows (mixup), or
    labels that were computed from them.

    Args:
        value: a tensor `[rows of all replicas, ...]`, or a structure of such.

    Returns:
        The structure, with tensors `[rows, ...]`; the value itself where there is one replica, and
        outside of a step.
    """
    step = current()
    if step is None or step.rows is None:
        return value
    start, stop = step.rows.start, step.rows.start + step.rows.count
    return tf.nest.map_structure(lambda one: step.in_rows(one[start:stop]), value)


def _all_reduce(
    self: tf.distribute.ReplicaContext,
    reduce_op: tf.distribute.ReduceOp | str,
    value: T,
    options: object = None,
) -> T:
    """An all-reduce inside a model or step, to which a replica without examples brings nothing.

    What flows back through it is summed over the replicas, by TensorFlow: losses are weighted by
    the shares before the backward pass. A mean over the replicas is weighted by the shares, too.
    """
    step = current()
    if step is None:
        whole: T = patches.original("all_reduce")(self, reduce_op, value, options)
        return whole
    operation = reduce_op
    if isinstance(reduce_op, str):
        operation = tf.distribute.ReduceOp[reduce_op.upper()]
    means = operation == tf.distribute.ReduceOp.MEAN
    parts = [
        step.weighted(tf.convert_to_tensor(part)) if means else step.if_present(part)
        for part in tf.nest.flatten(value, expand_composites=False)
    ]
    return step.sum_over_replicas(tf.nest.pack_sequence_as(value, parts), options)


def _all_gather(
    self: tf.distribute.ReplicaContext, value: T, axis: int, options: object = None
) -> T:
    """A gather: each replica's, between zeros, are summed over the replicas.

    TensorFlow's own needs `merge_call`, which a traced step must do without, would gather
    stand-ins, too, and has worker:10 before worker:2.
    """
    step = current()
    if step is None:
        return patches.original("all_gather")(self, value, axis, options)
    parts = [tf.convert_to_tensor(part) for part in tf.nest.flatten(value)]
    gathered = [_gathered_along(step, part, axis) for part in parts]
    return tf.nest.pack_sequence_as(value, gathered)


def _gathered_along(step: ReplicaStep, part: tf.Tensor, axis: int) -> tf.Tensor:
    rank = part.shape.rank
    if axis == 0 or not rank:
        return _gathered(step, part)
    if not -rank <= axis < rank:
        raise ValueError(
            f"a gather over the replicas along axis {axis} of a tensor of shape {part.shape}: give "
            f"an axis from {-rank} to {rank - 1}"
        )
    order = list(range(rank))
    order.insert(0, order.pop(axis))
    back = sorted(range(len(order)), key=order.__getitem__)
    return tf.transpose(_gathered(step, tf.transpose(part, order)), back)


def _gathered(step: ReplicaStep, part: tf.Tensor) -> tf.Tensor:
    if part.shape.rank == 0 or part.dtype == tf.string:
        raise ValueError(
            f"a gather over the replicas of a {part.dtype.name} tensor of shape {part.shape}: give "
            "a tensor of numbers whose first dimension is the batch"
        )
    replicas = step.replicas
    count = step.if_present(tf.shape(part)[:1])
    counts = step.sum_over_replicas(tf.one_hot(step.replica, replicas, dtype=tf.int32) * count)
    before = tf.reduce_sum(counts * tf.cast(tf.range(replicas) < step.replica, tf.int32))
    own = part[: count[0]]
    after = tf.reduce_sum(counts) - before - count[0]
    padding = tf.concat([[[before, after]], tf.zeros([tf.rank(part) - 1, 2], tf.int32)], 0)
    carried = tf.cast(own, tf.int32) if part.dtype == tf.bool else own
    padded = tf.pad(carried, padding)
    whole = tf.cast(step.sum_over_replicas(padded), part.dtype)
    whole.set_shape([None, *part.shape[1:]])
    step.replication.mark([whole])
    return whole


PATCHES = Patches({"all_reduce": _all_reduce, "all_gather": _all_gather})
