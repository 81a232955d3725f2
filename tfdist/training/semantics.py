"""What makes N replicas equal to one machine.

The rule: **each replica computes its loss as one machine would on its own examples, and its
gradients are weighted by its share (its examples over the global batch's) before they are summed.**
The losses of all replicas times their shares then sum to the loss of the whole batch, whatever the
shares are.

Keras weighs every replica by 1/N instead, which is wrong as soon as shares are uneven, and clips,
scales and checks gradients before it sums them. So while a replica's step is traced, the functions
below stand in for some of Keras' (`internals.POINTS`). Outside of a traced step, and on every other
thread, Keras is untouched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist import internals

__all__ = ["ReplicaStep", "compiled", "one_machine_semantics", "replica_step"]

_SEED_STRIDE = 1_000_003
"""A prime, so that the seeds of the replicas do not meet those of the next layers."""


@dataclasses.dataclass
class ReplicaStep:
    """What one replica knows of its part of the global batch while its step is traced.

    Attributes:
        strategy: the strategy whose replica this is.
        share: float32 scalar: this replica's examples over the global batch's; the shares of all
            replicas sum to 1.
        may_be_absent: True where a replica can be left without examples (a last batch smaller than
            the number of replicas). It then runs on a stand-in with share 0 and nothing of it is
            kept.
        exchange: how gradients reach the other replicas (`tfdist.training.exchange`); None sums
            them as they are.
        local_state: the variables that the step wrote on each replica for itself (the moving
            statistics of BatchNormalization are the typical ones), by identity.
        gradients_are_reduced: True inside of an optimizer's `apply`.
        weighted_losses: the optimizers, by identity, whose scaled loss was weighted by the share
            already, before the backward pass.
        postponed: where the forward and backward passes are being compiled by XLA: the calls of
            optimizers' `apply` that must wait until they are out of it.
    """

    strategy: tf.distribute.Strategy
    share: tf.Tensor
    may_be_absent: bool
    exchange: Any = None
    local_state: dict[int, keras.Variable] = dataclasses.field(default_factory=dict)
    gradients_are_reduced: bool = False
    weighted_losses: set[int] = dataclasses.field(default_factory=set)
    postponed: list[tuple[Any, list[Any], Any]] | None = None

    @property
    def present(self) -> tf.Tensor:
        """Bool scalar: whether this replica has any examples in this step."""
        return self.share > 0.0

    def if_present(self, value: tf.Tensor) -> tf.Tensor:
        """Returns the value, or zeros where this replica has no examples."""
        return tf.where(self.present, value, tf.zeros_like(value)) if self.may_be_absent else value

    def sum_over_replicas(self, values: Any) -> Any:
        """Sums a structure of tensors over all replicas; every replica gets the result."""
        context = tf.distribute.get_replica_context()
        return internals.original("all_reduce")(context, tf.distribute.ReduceOp.SUM, values)

    def weighted(self, gradient: Any, optimizer: Any) -> Any:
        """Returns the gradient times this replica's share (sparse ones stay sparse)."""
        if isinstance(gradient, tf.IndexedSlices):
            values = self.weighted(gradient.values, optimizer)
            return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
        if id(optimizer) in self.weighted_losses:
            return self.if_present(gradient)
        share = tf.cast(self.share, gradient.dtype)
        if self.may_be_absent:
            # A stand-in example may give NaN or infinity: 0 times those must be 0.
            return tf.math.multiply_no_nan(gradient, share)
        return gradient * share

    def exchanged(
        self, gradients: list[Any], variables: Sequence[Any], optimizer: Any
    ) -> list[Any]:
        """Returns what this replica's optimizer is to apply, for its own gradients."""
        weighted = [self.weighted(gradient, optimizer) for gradient in gradients]
        if self.exchange is not None:
            return self.exchange.gradients(self, weighted, variables)
        return self.sum_over_replicas(weighted)

    def undo_share(self, value: tf.Tensor) -> tf.Tensor:
        """Divides by the share what is a part of the whole batch's loss already."""
        return tf.math.divide_no_nan(value, tf.cast(self.share, value.dtype))


class _Current(threading.local):
    step: ReplicaStep | None = None


_current = _Current()


@contextlib.contextmanager
def one_machine_semantics(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Enter it around `strategy.run`; each replica then enters `replica_step`."""
    with internals.replaced(_REPLACEMENTS), internals.without_merge_call(strategy):
        yield


@contextlib.contextmanager
def replica_step(step: ReplicaStep) -> Iterator[ReplicaStep]:
    """Makes `step` the current one of this thread, which is one replica's."""
    outer, _current.step = _current.step, step
    try:
        yield step
    finally:
        _current.step = outer


def compiled(step: ReplicaStep, step_function: Callable[[Any], Any], data: Any) -> Any:
    """Runs a step with its forward and backward passes compiled by XLA.

    The sum of the gradients over the replicas and the update, which XLA on several machines has no
    word for, follow outside. So the step must do nothing after the update that depends on it.

    Args:
        step: the current step.
        step_function: `train_step` or `test_step`, returning a structure of tensors.
        data: this replica's part of the batch.

    Returns:
        What `step_function` returns.
    """
    waiting: list[tuple[Any, Any]] = []

    def forward_and_backward(data: Any) -> Any:
        step.postponed = []
        try:
            result = step_function(data)
            waiting[:] = [(optimizer, variables) for optimizer, _, variables in step.postponed]
            return result, [gradients for _, gradients, _ in step.postponed]
        finally:
            step.postponed = None

    result, all_gradients = tf.function(forward_and_backward, jit_compile=True, autograph=False)(
        data
    )
    for (optimizer, variables), gradients in zip(waiting, all_gradients, strict=True):
        optimizer.apply(gradients, variables)
    return result


# ---------------------------------------------------------------- losses


def _scale_loss(value: Any) -> Any:
    return value if _current.step else internals.original("scale_loss")(value)


def _unscale_loss(value: Any) -> Any:
    return value if _current.step else internals.original("unscale_loss")(value)


def _reduce_values(
    values: Any, sample_weight: Any = None, reduction: Any = "sum_over_batch_size"
) -> Any:
    """Reduces the losses of this replica's examples to its loss."""
    step = _current.step
    if step is not None and values.shape.rank != 0:
        if reduction == "sum":
            return step.undo_share(tf.reduce_sum(values))
        if reduction == "mean_with_sample_weight" and sample_weight is not None:
            total = tf.reduce_sum(values)
            weight = tf.cast(tf.reduce_sum(sample_weight), total.dtype)
            all_weight = tf.stop_gradient(step.sum_over_replicas(step.if_present(weight)))
            return step.undo_share(tf.math.divide_no_nan(total, all_weight))
    return internals.original("reduce_values")(values, sample_weight, reduction)


def _apply_mask(sample_weight: Any, mask: Any, dtype: Any, reduction: Any) -> Any:
    """Weighs valid time steps by the whole batch's count of them, not by this replica's."""
    step = _current.step
    if step is None or mask is None or reduction not in ("mean", "sum_over_batch_size"):
        return internals.original("apply_mask")(sample_weight, mask, dtype, reduction)
    valid = tf.cast(tf.convert_to_tensor(mask), "bool")
    counts = tf.cast([tf.size(valid), tf.math.count_nonzero(valid, dtype="int32")], dtype)
    total, valid_count = tf.unstack(step.sum_over_replicas(step.if_present(counts)))
    factor = tf.math.divide_no_nan(total, valid_count)
    weights = tf.where(valid, factor, tf.zeros_like(factor))
    if sample_weight is None:
        return weights
    weights, sample_weight = internals.squeeze_or_expand_to_same_rank(
        weights, tf.cast(sample_weight, dtype)
    )
    return weights * sample_weight


def _average_loss(
    per_example_loss: Any, sample_weight: Any = None, global_batch_size: Any = None
) -> Any:
    """`tf.nn.compute_average_loss`, which divides by the global batch size by itself."""
    step = _current.step
    if step is None:
        return internals.original("average_loss")(
            per_example_loss, sample_weight, global_batch_size
        )
    if global_batch_size is None:
        rows = tf.shape(per_example_loss)[0]
        return internals.original("average_loss")(per_example_loss, sample_weight, rows)
    return step.undo_share(
        internals.original("average_loss")(per_example_loss, sample_weight, global_batch_size)
    )


def _regularization_loss(regularization_loss: Any) -> Any:
    """`tf.nn.scale_regularization_loss`, which divides by the number of replicas by itself."""
    if _current.step is None:
        return internals.original("regularization_loss")(regularization_loss)
    return tf.reduce_sum(regularization_loss)


def _samplewise_values(values: Any, sample_weight: Any, reduce_fn: Any, dtype: Any) -> Any:
    """A scalar given to a Mean or Sum metric stands for the batch: it counts by the share."""
    step = _current.step
    if step is not None and sample_weight is None and len(getattr(values, "shape", (1,))) == 0:
        sample_weight = step.share
    return internals.original("samplewise_values")(values, sample_weight, reduce_fn, dtype)


# ---------------------------------------------------------------- collectives and random numbers


def _all_reduce(self: Any, reduce_op: Any, value: Any, options: Any = None) -> Any:
    """An all-reduce inside a model (synchronized BatchNormalization) whose gradient knows shares.

    The whole loss is the sum of share times loss over the replicas, so what flows back into a
    replica is everybody's gradient weighted by their shares, over its own share (which `weighted`
    multiplies again at the end). A replica without examples contributes nothing.
    """
    step = _current.step
    flat = tf.nest.flatten(value)
    if step is None or any(isinstance(part, tf.IndexedSlices) for part in flat):
        return internals.original("all_reduce")(self, reduce_op, value, options)

    @tf.custom_gradient
    def reduced(*parts: Any) -> Any:
        present = [step.if_present(part) for part in parts]
        sums = internals.original("all_reduce")(self, reduce_op, present, options)

        def gradient(*upstream: Any) -> Any:
            if step.weighted_losses:  # then what flows back is weighted from the start
                return internals.original("all_reduce")(self, reduce_op, list(upstream), options)
            weighted = [dy * tf.cast(step.share, dy.dtype) for dy in upstream]
            total = internals.original("all_reduce")(self, reduce_op, weighted, options)
            return [step.undo_share(part) for part in total]

        return sums, gradient

    return tf.nest.pack_sequence_as(value, tf.nest.flatten(reduced(*flat)))


def _next_seed(self: Any, ordered: bool = True) -> Any:
    """Random numbers (Dropout) differ between replicas; the first draws what one machine does."""
    seed = internals.original("next_seed")(self, ordered)
    if _current.step is None:
        return seed
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    offset = tf.cast(replica, seed.dtype) * tf.constant(_SEED_STRIDE, seed.dtype)
    return seed + tf.stack([offset, tf.zeros_like(offset)])


# ---------------------------------------------------------------- variables and optimizers


def _assign(self: Any, value: Any) -> None:
    """Writes a Keras variable on this replica only, and remembers what must be averaged later."""
    step = _current.step
    variable = self._value
    on_read = self.synchronization == "on_read"
    if step is None or (self.aggregation in ("mean", "sum") and not on_read):
        internals.original("assign")(self, value)
        return
    value = tf.cast(value, variable.dtype)
    # An optimizer's own variables come out equal on every replica; a layer's need not.
    local = not self.trainable and variable.dtype.is_floating and not step.gradients_are_reduced
    if (local or on_read) and step.may_be_absent:
        value = tf.where(step.present, value, variable)
    if on_read:
        variable.assign(value)
        return
    if local:
        step.local_state[id(self)] = self
    step.strategy.extended.update(
        variable, lambda own, new: own.assign(new), args=(value,), group=False
    )


def _reducing(name: str) -> Callable[..., Any]:
    """An optimizer's `apply` that sums the gradients over the replicas before all else."""

    def apply(self: Any, grads: Any, trainable_variables: Any = None) -> Any:
        step = _current.step
        if step is None or step.gradients_are_reduced:
            return internals.original(name)(self, grads, trainable_variables)
        if step.postponed is not None:
            step.postponed.append((self, list(grads), trainable_variables))
            return None
        grads = list(grads)
        there = [i for i, gradient in enumerate(grads) if gradient is not None]
        if there:
            variables = list(trainable_variables or self._trainable_variables)
            given = [grads[i] for i in there]
            reduced = step.exchanged(given, [variables[i] for i in there], self)
            for i, gradient in zip(there, reduced, strict=True):
                grads[i] = gradient
        step.gradients_are_reduced = True
        try:
            return internals.original(name)(self, grads, trainable_variables)
        finally:
            step.gradients_are_reduced = False

    return apply


def _scaled_loss(self: Any, loss: Any) -> Any:
    """A loss that is scaled up for float16 is weighted before the backward pass.

    A replica's mean over its own rows is N times larger than its part of the whole batch's mean:
    weighted later, its gradients would overflow where one machine's do not.
    """
    scaled = internals.original("scaled_loss")(self, loss)
    step = _current.step
    if step is None:
        return scaled
    step.weighted_losses.add(id(self))
    return scaled * tf.cast(step.share, scaled.dtype)


def _reduce_gradients(self: Any, grads_and_vars: Any) -> Any:
    if _current.step is None:
        return internals.original("reduce_gradients")(self, grads_and_vars)
    return list(grads_and_vars)  # `apply` has done it


_REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "scale_loss": _scale_loss,
    "unscale_loss": _unscale_loss,
    "reduce_values": _reduce_values,
    "apply_mask": _apply_mask,
    "samplewise_values": _samplewise_values,
    "average_loss": _average_loss,
    "regularization_loss": _regularization_loss,
    "all_reduce": _all_reduce,
    "next_seed": _next_seed,
    "assign": _assign,
    "apply": _reducing("apply"),
    "scaled_apply": _reducing("scaled_apply"),
    "scaled_loss": _scaled_loss,
    "reduce_gradients": _reduce_gradients,
}
