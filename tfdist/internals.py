"""The one place where tfdist reaches into the private parts of Keras and TensorFlow.

Everything else in tfdist uses public API. Two kinds of things live here:

*Borrowed parts*: Keras' data adapters and its symbolic build, called as Keras calls them, so that
every input that `keras.Model.fit` accepts is accepted here with Keras' own messages.

*One machine's semantics* (`replica_step`): while a replica's step is traced, a handful of Keras
functions are told which share of the global batch this replica holds. The rule that makes N
replicas equal one machine is: **each replica computes its loss as one machine would on its own
examples, and its gradients are weighted by its share (its examples over the global batch's) before
they are summed.** Keras weighs every replica by 1/N instead, which is wrong as soon as the shares
are uneven, and clips and checks gradients before it sums them. Outside of a traced step Keras is
untouched: the replacements are installed while a step is being traced and fall through to the
originals on every thread but the replica's.

`check_versions` verifies at the first use that what is touched here looks as expected.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src import tree as tree
from keras.src.backend.tensorflow import core as keras_core
from keras.src.backend.tensorflow import optimizer as keras_tf_optimizer
from keras.src.backend.tensorflow import trainer as keras_trainer
from keras.src.losses import loss as keras_loss
from keras.src.metrics import reduction_metrics as keras_reduction
from keras.src.optimizers import base_optimizer as keras_optimizer
from keras.src.optimizers import loss_scale_optimizer as keras_loss_scale
from keras.src.random import seed_generator as keras_seed
from keras.src.trainers import data_adapters as keras_data_adapters
from keras.src.trainers.data_adapters import array_slicing as keras_array_slicing
from keras.src.trainers.data_adapters import data_adapter_utils as keras_data_utils
from keras.src.utils import traceback_utils as keras_traceback

from tensorflow.python.eager import context as tf_context

from tfdist.errors import PlugError

__all__ = [
    "ReplicaStep",
    "check_versions",
    "data_adapter",
    "filter_traceback",
    "flat_losses",
    "keras_predict",
    "replica_step",
    "split_validation",
    "symbolic_build",
    "train_validation_arrays",
    "tree",
    "unpack",
]

OLDEST_KERAS = (3, 13)
"""The oldest Keras that the test suite has passed with."""

_SEED_STRIDE = 1_000_003
"""A prime, so that the replicas' seeds do not meet those of the next layers."""

filter_traceback = keras_traceback.filter_traceback
unpack = keras_data_utils.unpack_x_y_sample_weight
class_weight_to_sample_weights = keras_data_utils.class_weight_to_sample_weights
keras_predict = keras_trainer.TensorFlowTrainer.predict


# ---------------------------------------------------------------- borrowed parts


def data_adapter(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    shuffle: Any = False,
    class_weight: Any = None,
) -> Any:
    """Returns Keras' own data adapter for these arguments of `fit`, `evaluate` or `predict`."""
    if isinstance(x, tf.data.Dataset | types.GeneratorType):
        shuffle = False  # it means nothing there, and Keras would warn of its own default
    return keras_data_adapters.get_data_adapter(
        x=x,
        y=y,
        sample_weight=sample_weight,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        shuffle=shuffle,
        class_weight=class_weight,
    )


def smallest_batch(adapter: Any) -> int | None:
    """Rows of the smallest batch that a data adapter gives, or None where it cannot tell."""
    try:
        partial, size = adapter.partial_batch_size, adapter.batch_size
        return None if adapter.has_partial_batch is None else int(partial or size)
    except NotImplementedError:
        return None


def split_validation(x: Any, y: Any, sample_weight: Any, fraction: float) -> Any:
    """Splits arrays as `fit(validation_split=...)` does: the last `fraction` is held out."""
    return keras_array_slicing.train_validation_split(
        (x, y, sample_weight), validation_split=fraction
    )


def symbolic_build(model: keras.Model, batch: Any) -> None:
    """Creates all variables of the model, its metrics and its optimizer before anything is traced.

    Args:
        model: a compiled model, or one to predict with.
        batch: tensors or specs of one batch, as `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
    """
    model._symbolic_build(data_batch=batch)


def flat_losses(model: keras.Model) -> list[Any]:
    """Returns the `keras.losses.Loss` objects that `compile` was given (after the build)."""
    compile_loss = getattr(model, "_compile_loss", None)
    entries = getattr(compile_loss, "_flat_losses", None) or []
    return [entry[1] for entry in entries if entry[1] is not None]


def seed_if_unseeded(seed: int) -> None:
    """Sets TensorFlow's global seed, unless the program has set one."""
    if tf_context.global_seed() is None:
        tf.random.set_seed(seed)


def in_order(model: keras.Model, logs: dict[str, Any]) -> Any:
    """Returns the values of `logs` as `evaluate` and `train_on_batch` return them."""
    return model._flatten_metrics_in_order(logs)


def is_built(model: keras.Model) -> bool:
    """Whether the model and all of its layers have their variables."""
    return all(layer.built for layer in model._flatten_layers())


def restored_epoch(model: keras.Model) -> int | None:
    """Takes the epoch that a callback has set to begin with (`BackupAndRestore` does), if any."""
    epoch, model._initial_epoch = getattr(model, "_initial_epoch", None), None
    return epoch


def begin_with_epoch(model: keras.Model, epoch: int) -> None:
    """Has the `fit` that is beginning start with this epoch (from 0), as `BackupAndRestore` does."""
    model._initial_epoch = epoch


def save(model: keras.Model, path: str) -> None:
    """Saves with Keras' own method, whatever the plugged model's does beside."""
    keras.Model.save(model, path)


_strategies_seen = 0
_INSTANCES_PER_STRATEGY = 1_000_000


def separate_collectives(strategy: tf.distribute.Strategy) -> None:
    """Keeps the collectives of two strategies of one process apart.

    Every MirroredStrategy numbers its collectives from the same start; a second one in the process
    (a notebook's cell run again) would meet those of the first and fail with "Shape mismatch in
    the collective instance".
    """
    global _strategies_seen
    keys = getattr(strategy.extended, "_collective_keys", None)
    if keys is None or isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return
    if getattr(keys, "_tfdist_separated", False):
        return
    with _install_lock:
        offset = _strategies_seen * _INSTANCES_PER_STRATEGY
        _strategies_seen += 1
    for devices in keys._instance_key_table.values():
        for device in devices:
            devices[device] += offset
    keys._tfdist_separated = True


# ---------------------------------------------------------------- one machine's semantics


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
        local_state: the variables that the step wrote on each replica for itself (the moving
            statistics of BatchNormalization are the typical ones), by identity.
    """

    strategy: tf.distribute.Strategy
    share: tf.Tensor
    may_be_absent: bool
    local_state: dict[int, keras.Variable] = dataclasses.field(default_factory=dict)
    gradients_are_reduced: bool = False

    @property
    def present(self) -> tf.Tensor:
        """Bool scalar: whether this replica has any examples in this step."""
        return self.share > 0.0

    def sum_over_replicas(self, values: Any) -> Any:
        """Sums a structure of tensors over all replicas; every replica gets the result."""
        context = tf.distribute.get_replica_context()
        return _original_context_all_reduce(context, tf.distribute.ReduceOp.SUM, values)

    def weighted(self, gradient: Any) -> Any:
        """Returns the gradient times this replica's share (sparse ones stay sparse)."""
        if isinstance(gradient, tf.IndexedSlices):
            return tf.IndexedSlices(
                self.weighted(gradient.values), gradient.indices, gradient.dense_shape
            )
        share = tf.cast(self.share, gradient.dtype)
        if self.may_be_absent:
            # A stand-in example may give NaN or infinity: 0 times those must be 0.
            return tf.math.multiply_no_nan(gradient, share)
        return gradient * share


class _Current(threading.local):
    step: ReplicaStep | None = None


_current = _Current()
_install_lock = threading.RLock()
_installed = 0


@contextlib.contextmanager
def one_machine_semantics(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Puts the replacements in place while a step is traced (or run eagerly), and takes them back.

    Enter it around `strategy.run`; each replica then enters `replica_step`. It also asks the
    strategy for its mode without `merge_call`, in which every replica updates its own copy of a
    variable by itself: only then may an update stand in a condition, as gradient accumulation and
    loss scaling need.
    """
    global _installed
    extended = strategy.extended
    before = extended.__dict__.get("_use_merge_call")
    with _install_lock:
        _installed += 1
        if _installed == 1:
            for owner, name, replacement, _ in _REPLACEMENTS:
                setattr(owner, name, replacement)
    extended._use_merge_call = lambda: False
    try:
        yield
    finally:
        if before is None:
            del extended._use_merge_call
        else:
            extended._use_merge_call = before
        with _install_lock:
            _installed -= 1
            if _installed == 0:
                for owner, name, _, original in _REPLACEMENTS:
                    setattr(owner, name, original)


@contextlib.contextmanager
def replica_step(step: ReplicaStep) -> Iterator[ReplicaStep]:
    """Makes `step` the current one of this thread, which is one replica's."""
    outer, _current.step = _current.step, step
    try:
        yield step
    finally:
        _current.step = outer


def _scale_loss(value: Any) -> Any:
    return value if _current.step else _original_scale_loss(value)


def _unscale_loss(value: Any) -> Any:
    return value if _current.step else _original_unscale_loss(value)


def _reduce_values(
    values: Any, sample_weight: Any = None, reduction: Any = "sum_over_batch_size"
) -> Any:
    """A replica's loss, such that the losses of all replicas times their shares sum to the whole."""
    step = _current.step
    if step is None or values.shape.rank == 0:
        return _original_reduce_values(values, sample_weight, reduction)
    if reduction == "sum":
        total = _original_reduce_values(values, sample_weight, reduction)
        return tf.math.divide_no_nan(total, tf.cast(step.share, total.dtype))
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        total = tf.reduce_sum(values)
        weight = tf.cast(tf.reduce_sum(sample_weight), total.dtype)
        all_weight = tf.stop_gradient(step.sum_over_replicas(_if_present(step, weight)))
        return tf.math.divide_no_nan(total, all_weight * tf.cast(step.share, total.dtype))
    return _original_reduce_values(values, sample_weight, reduction)


def _apply_mask(sample_weight: Any, mask: Any, dtype: Any, reduction: Any) -> Any:
    """Weighs valid time steps by the whole batch's valid count, not by this replica's."""
    step = _current.step
    if step is None or mask is None or reduction not in ("mean", "sum_over_batch_size"):
        return _original_apply_mask(sample_weight, mask, dtype, reduction)
    valid = tf.cast(tf.convert_to_tensor(mask), "bool")
    counts = tf.cast([tf.size(valid), tf.math.count_nonzero(valid, dtype="int32")], dtype)
    total, valid_count = tf.unstack(step.sum_over_replicas(_if_present(step, counts)))
    factor = tf.math.divide_no_nan(total, valid_count)
    weights = tf.where(valid, factor, tf.zeros_like(factor))
    if sample_weight is None:
        return weights
    weights, sample_weight = keras_loss.squeeze_or_expand_to_same_rank(
        weights, tf.cast(sample_weight, dtype)
    )
    return weights * sample_weight


def _if_present(step: ReplicaStep, value: tf.Tensor) -> tf.Tensor:
    return tf.where(step.present, value, tf.zeros_like(value)) if step.may_be_absent else value


def _samplewise_values(values: Any, sample_weight: Any, reduce_fn: Any, dtype: Any) -> Any:
    """A scalar given to a Mean or Sum metric stands for the batch: it counts by the share."""
    step = _current.step
    if step is not None and sample_weight is None and len(getattr(values, "shape", (1,))) == 0:
        sample_weight = step.share
    return _original_samplewise_values(values, sample_weight, reduce_fn, dtype)


def _average_loss(per_example_loss: Any, sample_weight: Any = None, **kwargs: Any) -> Any:
    """`tf.nn.compute_average_loss`, which divides by the global batch size by itself."""
    step = _current.step
    if step is None:
        return _original_average_loss(per_example_loss, sample_weight, **kwargs)
    if kwargs.get("global_batch_size") is None:
        kwargs["global_batch_size"] = tf.shape(per_example_loss)[0]
        return _original_average_loss(per_example_loss, sample_weight, **kwargs)
    average = _original_average_loss(per_example_loss, sample_weight, **kwargs)
    return tf.math.divide_no_nan(average, tf.cast(step.share, average.dtype))


def _regularization_loss(loss: Any) -> Any:
    """`tf.nn.scale_regularization_loss`, which divides by the number of replicas by itself."""
    if _current.step is None:
        return _original_regularization_loss(loss)
    return tf.reduce_sum(loss)


def _context_all_reduce(self: Any, reduce_op: Any, value: Any, options: Any = None) -> Any:
    """An all-reduce inside a model (synchronized BatchNormalization) whose gradient knows shares.

    The whole loss is the sum of share times loss over the replicas, so what flows back into a
    replica is everybody's gradient weighted by their shares, over its own share (which `weighted`
    multiplies again at the end). A replica without examples contributes nothing.
    """
    step = _current.step
    flat = tf.nest.flatten(value)
    if step is None or any(isinstance(v, tf.IndexedSlices) for v in flat):
        return _original_context_all_reduce(self, reduce_op, value, options)

    @tf.custom_gradient
    def reduced(*values: Any) -> Any:
        values = [_if_present(step, v) for v in values]
        sums = _original_context_all_reduce(self, reduce_op, values, options)

        def gradient(*upstream: Any) -> Any:
            weighted = [dy * tf.cast(step.share, dy.dtype) for dy in upstream]
            total = _original_context_all_reduce(self, reduce_op, weighted, options)
            return [tf.math.divide_no_nan(t, tf.cast(step.share, t.dtype)) for t in total]

        return sums, gradient

    return tf.nest.pack_sequence_as(value, tf.nest.flatten(reduced(*flat)))


def _next_seed(self: Any, ordered: bool = True) -> Any:
    """Random numbers (Dropout) differ between replicas; the first one draws what one machine does."""
    seed = _original_next_seed(self, ordered)
    if _current.step is None:
        return seed
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    offset = tf.cast(replica, seed.dtype) * tf.constant(_SEED_STRIDE, seed.dtype)
    return seed + tf.stack([offset, tf.zeros_like(offset)])


def _direct_assign(self: Any, value: Any) -> None:
    """Writes a Keras variable on this replica only, and remembers what must be averaged later."""
    step = _current.step
    variable = self._value
    if step is None or self.aggregation in ("mean", "sum") and self.synchronization != "on_read":
        return _original_direct_assign(self, value)
    value = tf.cast(value, variable.dtype)
    local_state = not self.trainable and variable.dtype.is_floating
    if local_state and step.may_be_absent and not step.gradients_are_reduced:
        value = tf.where(step.present, value, variable)
    if self.synchronization == "on_read":
        variable.assign(value)
        return None
    if local_state and not step.gradients_are_reduced:
        step.local_state[id(self)] = self
    step.strategy.extended.update(variable, _assign, args=(value,), group=False)
    return None


def _assign(variable: tf.Variable, value: tf.Tensor) -> None:
    variable.assign(value)


def _reducing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps an optimizer's `apply`: the gradients are summed over the replicas before all else."""

    def apply(self: Any, grads: Any, trainable_variables: Any = None) -> Any:
        step = _current.step
        if step is None or step.gradients_are_reduced:
            return original(self, grads, trainable_variables)
        grads = list(grads)
        there = [i for i, gradient in enumerate(grads) if gradient is not None]
        reduced = step.sum_over_replicas([step.weighted(grads[i]) for i in there]) if there else []
        for i, gradient in zip(there, reduced, strict=True):
            grads[i] = gradient
        step.gradients_are_reduced = True
        try:
            return original(self, grads, trainable_variables)
        finally:
            step.gradients_are_reduced = False

    return apply


def _all_reduce_sum_gradients(self: Any, grads_and_vars: Any) -> Any:
    if _current.step is None:
        return _original_all_reduce(self, grads_and_vars)
    return list(grads_and_vars)  # `apply` has done it


_original_scale_loss = keras_loss.scale_loss_for_distribution
_original_unscale_loss = keras_loss.unscale_loss_for_distribution
_original_reduce_values = keras_loss.reduce_values
_original_apply_mask = keras_loss.apply_mask
_original_samplewise_values = keras_reduction.reduce_to_samplewise_values
_original_average_loss = tf.nn.compute_average_loss
_original_regularization_loss = tf.nn.scale_regularization_loss
_original_context_all_reduce = tf.distribute.ReplicaContext.all_reduce
_original_next_seed = keras_seed.SeedGenerator.next
_original_direct_assign = keras_core.Variable._direct_assign
_original_apply = keras_optimizer.BaseOptimizer.apply
_original_loss_scale_apply = keras_loss_scale.LossScaleOptimizer.apply
_original_all_reduce = keras_tf_optimizer.TFOptimizer._all_reduce_sum_gradients

_REPLACEMENTS: list[tuple[Any, str, Any, Any]] = [
    (keras_loss, "scale_loss_for_distribution", _scale_loss, _original_scale_loss),
    (keras_loss, "unscale_loss_for_distribution", _unscale_loss, _original_unscale_loss),
    (keras_loss, "reduce_values", _reduce_values, _original_reduce_values),
    (keras_loss, "apply_mask", _apply_mask, _original_apply_mask),
    (
        keras_reduction,
        "reduce_to_samplewise_values",
        _samplewise_values,
        _original_samplewise_values,
    ),
    (tf.nn, "compute_average_loss", _average_loss, _original_average_loss),
    (tf.nn, "scale_regularization_loss", _regularization_loss, _original_regularization_loss),
    (
        tf.distribute.ReplicaContext,
        "all_reduce",
        _context_all_reduce,
        _original_context_all_reduce,
    ),
    (keras_seed.SeedGenerator, "next", _next_seed, _original_next_seed),
    (keras_core.Variable, "_direct_assign", _direct_assign, _original_direct_assign),
    (keras_optimizer.BaseOptimizer, "apply", _reducing(_original_apply), _original_apply),
    (
        keras_loss_scale.LossScaleOptimizer,
        "apply",
        _reducing(_original_loss_scale_apply),
        _original_loss_scale_apply,
    ),
    (
        keras_tf_optimizer.TFOptimizer,
        "_all_reduce_sum_gradients",
        _all_reduce_sum_gradients,
        _original_all_reduce,
    ),
]

_SIGNATURES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "keras.losses.loss.reduce_values": (
        _original_reduce_values,
        ("values", "sample_weight", "reduction"),
    ),
    "keras.losses.loss.apply_mask": (
        _original_apply_mask,
        ("sample_weight", "mask", "dtype", "reduction"),
    ),
    "keras.metrics.reduce_to_samplewise_values": (
        _original_samplewise_values,
        ("values", "sample_weight", "reduce_fn", "dtype"),
    ),
    "keras.Variable._direct_assign": (_original_direct_assign, ("self", "value")),
    "keras.random.SeedGenerator.next": (_original_next_seed, ("self", "ordered")),
    "tf.distribute.ReplicaContext.all_reduce": (
        _original_context_all_reduce,
        ("self", "reduce_op", "value", "options"),
    ),
    "keras.Optimizer.apply": (_original_apply, ("self", "grads", "trainable_variables")),
    "keras.LossScaleOptimizer.apply": (
        _original_loss_scale_apply,
        ("self", "grads", "trainable_variables"),
    ),
    "keras.Optimizer._all_reduce_sum_gradients": (_original_all_reduce, ("self", "grads_and_vars")),
    "keras.Model._symbolic_build": (
        keras.Model._symbolic_build,
        ("self", "iterator", "data_batch"),
    ),
}


def check_versions() -> None:
    """Checks that the installed Keras is one that the replacements fit.

    Raises:
        PlugError: Keras is too old, runs on another backend, or a function that tfdist replaces
            while tracing has another signature than the one it was written for.
    """
    if keras.backend.backend() != "tensorflow":
        raise PlugError(
            f"Keras runs on the backend {keras.backend.backend()!r}; tfdist trains on TensorFlow: "
            "set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    version = tuple(int(part) for part in keras.__version__.split(".")[:2])
    if version < OLDEST_KERAS:
        raise PlugError(
            f"Keras {keras.__version__} is installed; tfdist needs "
            f"{'.'.join(map(str, OLDEST_KERAS))} or later: pip install -U keras"
        )
    for name, (function, expected) in _SIGNATURES.items():
        given = tuple(inspect.signature(function).parameters)
        if given != expected:
            raise PlugError(
                f"Keras {keras.__version__} has {name}{given}, but this tfdist was written for "
                f"{expected}: install a tfdist that knows this Keras, or Keras 3.15"
            )
