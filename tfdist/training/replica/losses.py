"""Losses and metrics: each replica's loss is one machine's on its own examples.

What a stand-in does depends on who calls. In the step itself a loss is a mean over the replica's
rows, which the share weighs; a sum is divided by the share first. Inside of a metric all is left as
it is: a metric's states are summed over the replicas when they are read (`metrics`).
"""

from __future__ import annotations

import tensorflow as tf

from tfdist.compat import keras_trainer, patches, tf_graphs
from tfdist.compat.patches import Patches
from tfdist.structures import Count
from tfdist.training.replica.reductions import (
    flow_of,
    parts_of,
    warn_of,
    warn_of_rows,
    weighted_part,
)
from tfdist.training.replica.step import ReplicaStep, current

__all__ = ["PATCHES"]


def _of_a_loss() -> ReplicaStep | None:
    step = current()
    return None if step is None or step.updates_a_metric else step


def _scale_loss(value: tf.Tensor) -> tf.Tensor:
    return patches.original("scale_loss")(value) if current() is None else value


def _unscale_loss(value: tf.Tensor) -> tf.Tensor:
    return patches.original("unscale_loss")(value) if current() is None else value


def _reduce_values(
    values: tf.Tensor,
    sample_weight: tf.Tensor | None = None,
    reduction: str | None = "sum_over_batch_size",
) -> tf.Tensor:
    """Reduces the losses of this replica's examples to its loss."""
    step = _of_a_loss()
    whole = patches.original("reduce_values")
    if step is None or values.shape.rank == 0 or reduction in (None, "none"):
        return whole(values, sample_weight, reduction)
    warn_of_rows(step, values, "a loss")
    if reduction == "sum":
        return step.a_mean(step.undo_share(tf.reduce_sum(values)))
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        total = tf.reduce_sum(values)
        weight = tf.cast(tf.reduce_sum(sample_weight), total.dtype)
        all_weight = tf.stop_gradient(step.sum_over_replicas(step.if_present(weight)))
        return step.a_mean(step.undo_share(tf.math.divide_no_nan(total, all_weight)))
    return step.a_mean(whole(values, sample_weight, reduction))


def _apply_mask(
    sample_weight: tf.Tensor | None, mask: tf.Tensor | None, dtype: str, reduction: str | None
) -> tf.Tensor | None:
    """Weighs valid time steps by the whole batch's count of them, not by this replica's."""
    step = _of_a_loss()
    if step is None or mask is None or reduction not in ("mean", "sum_over_batch_size"):
        return patches.original("apply_mask")(sample_weight, mask, dtype, reduction)
    valid = tf.cast(tf.convert_to_tensor(mask), "bool")
    counts = tf.cast([tf.size(valid), tf.math.count_nonzero(valid, dtype="int32")], dtype)
    total, valid_count = tf.unstack(step.sum_over_replicas(step.if_present(counts)))
    factor = tf.math.divide_no_nan(total, valid_count)
    return keras_trainer.weights_by_mask(sample_weight, valid, factor, dtype)


def _average_loss(
    per_example_loss: tf.Tensor,
    sample_weight: tf.Tensor | None = None,
    global_batch_size: Count | None = None,
) -> tf.Tensor:
    """`tf.nn.compute_average_loss`, which divides by the global batch size by itself."""
    step = current()
    whole = patches.original("average_loss")
    if step is None:
        return whole(per_example_loss, sample_weight, global_batch_size)
    if global_batch_size is None:
        rows = tf.shape(per_example_loss)[0]
        return step.a_mean(whole(per_example_loss, sample_weight, rows))
    return step.a_mean(step.undo_share(whole(per_example_loss, sample_weight, global_batch_size)))


def _regularization_loss(regularization_loss: tf.Tensor) -> tf.Tensor:
    """`tf.nn.scale_regularization_loss`, which divides by the number of replicas by itself."""
    if current() is None:
        return patches.original("regularization_loss")(regularization_loss)
    return tf.reduce_sum(regularization_loss)


def _samplewise_values(
    values: tf.Tensor | float,
    sample_weight: tf.Tensor | float | None,
    reduce_fn: object,
    dtype: str,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """A scalar given to a Mean or Sum metric stands for the batch: it counts by the share.

    A weight that is the number of rows, as Keras gives with a loss, has the share in it already.
    """
    step = current()
    whole = patches.original("samplewise_values")
    if step is None or not (_is_scalar(values) and _is_scalar(sample_weight)):
        return whole(values, sample_weight, reduce_fn, dtype)
    values = tf.convert_to_tensor(values)
    parts = parts_of(step, values, slopes=False)
    warn_of(step, parts, "a number that a step gives to a metric")
    values = step.undo_share(weighted_part(step, values))
    share = tf.cast(step.share, dtype)
    if sample_weight is None:
        sample_weight = share
    elif not _counts_rows(step, sample_weight):
        sample_weight = share * tf.cast(sample_weight, dtype)
    return whole(values, sample_weight, reduce_fn, dtype)


def _is_scalar(value: object) -> bool:
    return value is None or len(getattr(value, "shape", ())) == 0


def _counts_rows(step: ReplicaStep, weight: tf.Tensor | float) -> bool:
    """Whether a weight is the number of the replica's rows; Keras takes it from a static shape."""
    static = None if step.rows is None else step.rows.static
    weight = tf.convert_to_tensor(weight)
    known = tf_graphs.constant_value(weight)
    if known is not None:
        return float(known) == static
    if not tf_graphs.is_symbolic(weight):
        return False
    flow = flow_of(step, weight)
    return flow.degree == 1 or (weight.dtype.is_integer and flow.varies)  # of ragged rows


PATCHES = Patches(
    {
        "scale_loss": _scale_loss,
        "unscale_loss": _unscale_loss,
        "reduce_values": _reduce_values,
        "apply_mask": _apply_mask,
        "average_loss": _average_loss,
        "regularization_loss": _regularization_loss,
        "samplewise_values": _samplewise_values,
    }
)
