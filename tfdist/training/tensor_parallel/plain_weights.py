"""A layer's weights as plain Keras has them, where some are in parts: in files and in lists."""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import keras
import numpy as np

from tfdist.training.model_parts import unique
from tfdist.training.tensor_parallel.split_weight import SplitWeight, whole_of

__all__ = ["PlainWeights", "show_wholes", "wholes_of"]


def wholes_of(layer: keras.layers.Layer) -> list[keras.Variable | SplitWeight]:
    """A layer's variables in their order, those that are parts of one weight as one."""
    return unique(whole_of(one) or one for one in layer.variables)


class PlainWeights:
    """What a layer with weights in parts writes, reads and shows: whole weights."""

    def save_own_variables(self, store: Any) -> None:
        """Writes what the plain layer writes."""
        for i, variable in enumerate(wholes_of(self)):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Reads what the plain layer reads.

        Raises:
            ValueError: there is another number of weights.
        """
        layer: Any = self
        found, own = list(store.keys()), wholes_of(layer)
        if len(found) != len(own):
            raise ValueError(
                f"Layer {layer.name!r} expected {len(own)} variables, but received {len(found)} "
                f"variables during loading. Expected: {[one.name for one in own]}"
            )
        for i, variable in enumerate(own):
            variable.assign(store[str(i)])

    def get_weights(self) -> list[np.ndarray]:
        """Returns whole weights, as the plain layer."""
        return [np.asarray(one.numpy()) for one in _weights_of(self)]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets whole weights, as the plain layer.

        Raises:
            ValueError: there is another number of them, or one has another shape.
        """
        layer: Any = self
        own = _weights_of(layer)
        if len(weights) != len(own):
            raise ValueError(
                f"You called `set_weights(weights)` on layer {layer.name!r} with a weight list of "
                f"length {len(weights)}, but the layer was expecting {len(own)} weights."
            )
        for variable, value in zip(own, weights, strict=True):
            variable.assign(np.asarray(value))


def show_wholes(layer: keras.layers.Layer) -> None:
    """Has a model, or a layer with layers in parts, take and give whole weights, too."""
    for name in ("get_weights", "set_weights"):
        object.__setattr__(layer, name, MethodType(getattr(PlainWeights, name), layer))


def _weights_of(layer: Any) -> list[keras.Variable | SplitWeight]:
    return unique(whole_of(one) or one for one in layer.weights)
