"""What belongs to a model: its optimizers, and variables each once."""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["optimizers_of", "unique"]


def optimizers_of(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """The optimizer of `compile`, then those that a model with its own `train_step` has beside."""
    candidates = [model.optimizer, *vars(model).values()]
    found = [one for one in candidates if isinstance(one, keras.optimizers.Optimizer)]
    return list({id(one): one for one in found}.values())


def unique(variables: Any) -> list[keras.Variable]:
    """The variables in their order, each once."""
    return list({id(variable): variable for variable in variables}.values())
