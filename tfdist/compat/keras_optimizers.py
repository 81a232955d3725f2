"""What Keras' optimizers know of their variables."""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["decays", "excludes_unknown_variables", "rate_variable", "trained_by"]


def trained_by(optimizer: Any) -> list[keras.Variable]:
    """Returns the variables that a built optimizer was built for."""
    return list(optimizer._trainable_variables)


def rate_variable(optimizer: Any) -> keras.Variable | None:
    """Returns the variable of an optimizer's learning rate; None where a schedule gives it."""
    rate = getattr(optimizer, "_learning_rate", None)
    return rate if isinstance(rate, keras.Variable) else None


def decays(optimizer: Any, variable: Any) -> bool:
    """Whether an optimizer's weight decay reaches a TensorFlow variable, by its name."""
    return bool(optimizer._use_weight_decay(variable))


def excludes_unknown_variables(optimizer: Any) -> bool:
    """Whether `exclude_from_weight_decay` named a variable that the built optimizer has not."""
    excluded: set[str] = getattr(optimizer, "_exclude_from_weight_decay", set())
    return bool(excluded - {optimizer._var_key(v) for v in trained_by(optimizer)})
