"""What Keras' optimizers know of their variables."""

from __future__ import annotations

import keras
import tensorflow as tf

__all__ = [
    "COUNT_NOTHING",
    "adopt",
    "decays",
    "excludes_unknown_variables",
    "rate_variable",
    "read_by_updates",
    "steps_taken",
    "trained_by",
]

COUNT_NOTHING = (
    keras.optimizers.SGD,
    keras.optimizers.Adagrad,
    keras.optimizers.RMSprop,
    keras.optimizers.Adadelta,
    keras.optimizers.Ftrl,
    keras.optimizers.Lion,
)
"""Optimizers of which an update does not ask for the number of the step."""


def trained_by(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the variables that a built optimizer was built for."""
    return list(optimizer._trainable_variables)


def adopt(optimizer: keras.optimizers.Optimizer, strategy: tf.distribute.Strategy) -> None:
    """Lets a strategy of one replica train with an optimizer that was made outside of its scope.

    An optimizer asks the strategy under which it was made to place and to update variables; Keras'
    own `fit` would end in TensorFlow's "Mixing different tf.distribute.Strategy objects". What it
    holds already lies where one replica's variables may lie.
    """
    while optimizer is not None:
        optimizer._distribution_strategy = strategy
        optimizer = getattr(optimizer, "inner_optimizer", None)  # of a LossScaleOptimizer


def steps_taken(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Returns the variable that counts an optimizer's steps, those that it accumulates, too."""
    return optimizer._iterations


def rate_variable(optimizer: keras.optimizers.Optimizer) -> keras.Variable | None:
    """Returns the variable of an optimizer's learning rate; None where a schedule gives it."""
    rate = getattr(optimizer, "_learning_rate", None)
    return rate if isinstance(rate, keras.Variable) else None


def read_by_updates(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the variables that updates of all others read, beside the slots of each."""
    product = getattr(optimizer, "_u_product", None)  # Nadam's
    rate = rate_variable(optimizer)
    counts = not any(type(optimizer).update_step is kind.update_step for kind in COUNT_NOTHING)
    if rate is None and optimizer.weight_decay is not None:
        counts = True  # for the schedule
    found = [optimizer.iterations if counts else None, rate, product]
    return [variable for variable in found if isinstance(variable, keras.Variable)]


def decays(optimizer: keras.optimizers.Optimizer, variable: tf.Variable) -> bool:
    """Whether an optimizer's weight decay reaches a TensorFlow variable, by its name."""
    return bool(optimizer._use_weight_decay(variable))


def excludes_unknown_variables(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether `exclude_from_weight_decay` named a variable that the built optimizer has not."""
    excluded: set[str] = getattr(optimizer, "_exclude_from_weight_decay", set())
    return bool(excluded - {optimizer._var_key(v) for v in trained_by(optimizer)})
