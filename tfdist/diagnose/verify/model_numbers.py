"""A model's variables, and the numbers of logs and results, as they are recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.diagnose.verify.fold import fold

__all__ = ["numbers_of", "state_of"]


def state_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns a model's weights and its optimizers' variables, folded, by path."""
    from tfdist.training.model_parts import optimizers_of

    variables = list(model.weights)
    optimizers = [v for optimizer in optimizers_of(model) for v in optimizer.variables]
    found: dict[str, np.ndarray] = {}
    for variable in [*variables, *optimizers]:
        name = variable.path
        while name in found:
            name += "'"
        found[name] = fold(_array(variable))
    return found


def _array(variable: keras.Variable) -> np.ndarray:
    value = tf.convert_to_tensor(variable.value)
    if value.dtype.is_floating and value.dtype != tf.float64:
        value = tf.cast(value, tf.float32)
    return np.asarray(value)


def numbers_of(values: Any) -> dict[str, np.ndarray]:
    """The numbers of logs, or of any structure that a method has returned."""
    flat = _flat("", values)
    return {name: fold(np.asarray(value)) for name, value in flat if _is_numeric(value)}


def _flat(name: str, values: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(f"{name}/{key}".strip("/"), value)
    elif isinstance(values, list | tuple):
        for i, value in enumerate(values):
            yield from _flat(f"{name}/{i}".strip("/"), value)
    elif values is not None:
        yield name, values


def _is_numeric(value: Any) -> bool:
    try:
        return np.asarray(value).dtype.kind in "fiub"
    except Exception:
        return False
