"""The functions of Keras and TensorFlow that are replaced while a step is being traced."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import keras
import tensorflow as tf

from tfdist.compat import names
from tfdist.compat.names import (
    Owner,
    keras_functional,
    keras_image_layer,
    keras_loss,
    keras_losses,
    keras_optimizer,
    keras_reduction,
    keras_seed,
    keras_tf_optimizer,
    keras_variables,
    tf_counted,
    tf_function,
    tf_seeds,
    tf_stateless,
    tf_values,
)

__all__ = ["POINTS", "Patches", "Point", "original"]


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """A function of Keras or TensorFlow that can be replaced for a while.

    Attributes:
        owner: the module or class that has it.
        name: its name there.
        parameters: the names of its parameters when tfdist was written.
        not_always: those of them that a tested version may leave out.
        original: the function itself.
    """

    owner: Owner | None
    name: str
    parameters: tuple[str, ...]
    not_always: tuple[str, ...] = ()
    original: Callable[..., Any] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "original", getattr(self.owner, self.name, None))

    def moved(self) -> list[str]:
        """Returns in what the function is another one than tfdist was written for."""
        if self.owner is None:
            return []  # that it is missing is told by `tfdist.compat.names`
        name = f"{self.owner.__name__}.{self.name}"
        always = tuple(one for one in self.parameters if one not in self.not_always)
        moved = names.moved_parameters(name, self.original, self.parameters)
        return moved and names.moved_parameters(name, self.original, always)


_base_optimizer = names.of(keras_optimizer, "BaseOptimizer")

_tf_function = names.of(tf_function, "Function")
_tf_optimizer = names.of(keras_tf_optimizer, "TFOptimizer")

_keras_variable = names.of(keras_variables, "Variable")

_distributed_variable = names.of(tf_values, "DistributedVariable")

_UNCONNECTED = ("unconnected_gradients", "parallel_iterations", "experimental_use_pfor")

_COUNTED = ("shape", "key", "counter", "alg")
"""Of an operation that draws random numbers by their places."""

POINTS: Mapping[str, Point] = {
    "scale_loss": Point(keras_loss, "scale_loss_for_distribution", ("value",)),
    "unscale_loss": Point(keras_loss, "unscale_loss_for_distribution", ("value",)),
    "reduce_values": Point(keras_loss, "reduce_values", ("values", "sample_weight", "reduction")),
    "apply_mask": Point(keras_loss, "apply_mask", ("sample_weight", "mask", "dtype", "reduction")),
    "samplewise_values": Point(
        keras_reduction,
        "reduce_to_samplewise_values",
        ("values", "sample_weight", "reduce_fn", "dtype"),
    ),
    "average_loss": Point(
        tf.nn, "compute_average_loss", ("per_example_loss", "sample_weight", "global_batch_size")
    ),
    "regularization_loss": Point(tf.nn, "scale_regularization_loss", ("regularization_loss",)),
    "all_reduce": Point(
        tf.distribute.ReplicaContext, "all_reduce", ("self", "reduce_op", "value", "options")
    ),
    "all_gather": Point(
        tf.distribute.ReplicaContext, "all_gather", ("self", "value", "axis", "options")
    ),
    "tape_enter": Point(tf.GradientTape, "__enter__", ("self",)),
    "tape_exit": Point(tf.GradientTape, "__exit__", ("self", "typ", "value", "traceback")),
    "tape_gradient": Point(
        tf.GradientTape,
        "gradient",
        ("self", "target", "sources", "output_gradients", "unconnected_gradients"),
    ),
    "tape_jacobian": Point(
        tf.GradientTape,
        "jacobian",
        ("self", "target", "sources", *_UNCONNECTED),
    ),
    "tape_batch_jacobian": Point(
        tf.GradientTape,
        "batch_jacobian",
        ("self", "target", "source", *_UNCONNECTED),
    ),
    "vectorized_map": Point(
        tf, "vectorized_map", ("fn", "elems", "fallback_to_while_loop", "warn")
    ),
    "call_loss": Point(
        names.of(keras_losses, "LossFunctionWrapper"), "call", ("self", "y_true", "y_pred")
    ),
    "call_normalization": Point(
        keras.layers.BatchNormalization, "call", ("self", "inputs", "training", "mask")
    ),
    "call_image_layer": Point(
        names.of(keras_image_layer, "BaseImagePreprocessingLayer"),
        "call",
        ("self", "data", "training"),
    ),
    "call_functional": Point(
        names.of(keras_functional, "Functional"),
        "call",
        ("self", "inputs", "training", "mask", "kwargs"),
        not_always=("kwargs",),  # Keras 3.16 has none
    ),
    "call_function": Point(_tf_function, "__call__", ("self", "args", "kwds")),
    "assign": Point(keras.Variable, "_direct_assign", ("self", "value")),
    "assign_add": Point(_keras_variable, "assign_add", ("self", "value")),
    "assign_sub": Point(_keras_variable, "assign_sub", ("self", "value")),
    **{
        f"mirrored_{name}": Point(
            _distributed_variable, name, ("self", "value", "use_locking", "name", "read_value")
        )
        for name in ("assign", "assign_add", "assign_sub")
    },
    "dropout": Point(
        tf.nn.experimental,
        "stateless_dropout",
        ("x", "rate", "seed", "rng_alg", "noise_shape", "name"),
    ),
    "uniform": Point(tf_counted, "stateless_random_uniform_v2", (*_COUNTED, "dtype", "name")),
    "uniform_int": Point(
        tf_counted, "stateless_random_uniform_int_v2", (*_COUNTED, "minval", "maxval", "name")
    ),
    "uniform_full_int": Point(
        tf_counted, "stateless_random_uniform_full_int_v2", (*_COUNTED, "dtype", "name")
    ),
    "normal": Point(tf_counted, "stateless_random_normal_v2", (*_COUNTED, "dtype", "name")),
    "truncated_normal": Point(
        tf_counted, "stateless_truncated_normal_v2", (*_COUNTED, "dtype", "name")
    ),
    "gamma": Point(tf_counted, "stateless_random_gamma_v3", (*_COUNTED, "alpha", "name")),
    "categorical": Point(
        tf_stateless,
        "stateless_multinomial",
        ("logits", "num_samples", "seed", "output_dtype", "name"),
    ),
    "binomial": Point(
        tf_stateless,
        "stateless_random_binomial",
        ("shape", "seed", "counts", "probs", "dtype", "name"),
    ),
    "poisson": Point(
        tf_stateless, "stateless_random_poisson", ("shape", "seed", "lam", "dtype", "name")
    ),
    "global_seeds": Point(keras_seed, "global_seed_generator", ()),
    "get_seed": Point(tf_seeds, "get_seed", ("op_seed",)),
    "apply": Point(_base_optimizer, "apply", ("self", "grads", "trainable_variables")),
    "scaled_apply": Point(
        keras.optimizers.LossScaleOptimizer, "apply", ("self", "grads", "trainable_variables")
    ),
    "reduce_gradients": Point(
        _tf_optimizer, "_all_reduce_sum_gradients", ("self", "grads_and_vars")
    ),
    "update_step": Point(
        _tf_optimizer,
        "_backend_update_step",
        ("self", "grads", "trainable_variables", "learning_rate"),
    ),
    "optimizer_assign": Point(_tf_optimizer, "assign", ("self", "variable", "value")),
    "clip": Point(_base_optimizer, "_clip_gradients", ("self", "grads")),
    "weight_decay": Point(_tf_optimizer, "_apply_weight_decay", ("self", "variables")),
}
"""What `training` replaces while a step is traced."""


def original(name: str) -> Callable[..., Any]:
    """Returns the function itself that is, or may be, replaced at one of the `POINTS`."""
    return POINTS[name].original


class Patches:
    """Replacements for functions in `POINTS`, as one value that is entered and left.

    They hold on all threads while anybody is in. Within one set another may be entered, by the
    same thread or another: a function is then what the last set that was entered, and not yet left,
    makes of it; in whatever order they are left, what is untouched by the others is itself again.

    Args:
        replacements: from names of `POINTS` to functions that take the same arguments.

    Raises:
        KeyError: there is no such point.
    """

    _entered: ClassVar[list[Patches]] = []
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, replacements: Mapping[str, Callable[..., object]]) -> None:
        self._functions = {POINTS[name]: function for name, function in replacements.items()}

    def __or__(self, other: Patches) -> Patches:
        both = Patches({})
        both._functions = self._functions | other._functions
        return both

    def __enter__(self) -> None:
        with self._lock:
            self._entered.append(self)
            self._put()

    def __exit__(self, *error: object) -> None:
        with self._lock:
            last = max(i for i, one in enumerate(self._entered) if one is self)
            del self._entered[last]
            self._put()

    def _put(self) -> None:
        for point in self._functions:
            found = point.original
            for one in self._entered:
                found = one._functions.get(point, found)
            setattr(point.owner, point.name, found)
