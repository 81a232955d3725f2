"""What a Keras optimizer is built for, and what it asks of itself, for who shares out its slots."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tfdist.compat import tf_saving

__all__ = [
    "averages",
    "base_of",
    "decay_alike",
    "elementwise",
    "forget_slots",
    "key_of",
    "make_share",
    "overwrites",
    "replace_method",
]

_ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.Adagrad,
    keras.optimizers.RMSprop,
    keras.optimizers.Adadelta,
    keras.optimizers.Ftrl,
    keras.optimizers.Lion,
    keras.optimizers.Nadam,
    keras.optimizers.Adamax,
    keras.optimizers.Adam,
)
"""Whose update of a number asks for no other number of its variable."""

_METHODS = (
    "_apply_weight_decay",
    "_backend_apply_gradients",
    "_backend_update_step",
    "_clip_gradients",
    "add_variable_from_reference",
    "apply",
    "build",
    "update_step",
)


def elementwise(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimizer, as far as its class says, updates each number by itself."""
    kind = type(optimizer)
    return any(
        issubclass(kind, known)
        and all(getattr(kind, name) is getattr(known, name) for name in _METHODS)
        for known in _ELEMENTWISE
    )


def base_of(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the optimizer that updates: the inner one of a `LossScaleOptimizer`."""
    return getattr(optimizer, "inner_optimizer", None) or optimizer


def key_of(optimizer: keras.optimizers.Optimizer, variable: keras.Variable | tf.Variable) -> object:
    """Returns by what an optimizer knows a variable."""
    return optimizer._var_key(variable)


def make_share(variable: keras.Variable, shape: Sequence[int]) -> keras.Variable:
    """Returns what an optimizer is to take for a variable of this shape, with the same names.

    It holds no number but while it is updated: then it may be given a tensor of its shape.
    """
    share = keras.Variable(
        tf.zeros(shape, variable.dtype), dtype=variable.dtype, trainable=False, name=variable.name
    )
    share._path = variable.path
    scope, _, name = variable.value.name.partition(":")[0].rpartition("/")
    with tf.name_scope(f"{scope}/") if scope else contextlib.nullcontext():
        value = tf.zeros([1, *shape[1:]], variable.dtype)
        share._value = tf.Variable(value, False, shape=[None, *shape[1:]], name=name)
    return share


def forget_slots(optimizer: keras.optimizers.Optimizer) -> None:
    """Has a built optimizer be as it was before it was built; it has taken its steps, though."""
    one: keras.optimizers.Optimizer | None = optimizer
    while one is not None:
        kept = {id(one._iterations), id(getattr(one, "_learning_rate", None))}
        for variable in list(one._variables):
            if id(variable) not in kept:
                one._untrack_variable(variable)
        one._trainable_variables_indices = {}  # cleared, TensorFlow would refuse to export it
        one.built = False
        tf_saving.may_be_saved(one)
        one = getattr(one, "inner_optimizer", None)


def decay_alike(
    optimizer: keras.optimizers.Optimizer, share: keras.Variable, variable: keras.Variable
) -> None:
    """Has weight decay leave out the share of a variable that it was told to leave out.

    Of those that are left out by their names, the shares are, too.
    """
    excluded: set[object] | None = getattr(optimizer, "_exclude_from_weight_decay", None)
    if excluded and optimizer._var_key(variable) in excluded:
        excluded.add(optimizer._var_key(share))


def averages(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the moving averages of the variables that a built optimizer with `use_ema` has."""
    return [one for one in optimizer._model_variables_moving_average if one is not None]


def overwrites(variable: keras.Variable) -> bool:
    """Whether a variable's gradient is its new value (of float8 layers)."""
    return bool(getattr(variable, "overwrite_with_gradient", False))


def replace_method(
    optimizer: keras.optimizers.Optimizer, name: str, method: Callable[..., object]
) -> None:
    """Has one optimizer do something else than its class would, in one of its methods."""
    object.__setattr__(optimizer, name, method)
