"""What belongs to a model: its optimizers, and variables each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras

from tfdist.compat import keras_layers
from tfdist.structures import T

__all__ = ["optimizers_of", "unique"]


def optimizers_of(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """The optimizer of `compile`, then all others that the model or a part of it has."""
    candidates = [getattr(model, "optimizer", None)]
    for layer in keras_layers.all_layers(model):
        candidates.extend(leaf for value in vars(layer).values() for leaf in _leaves(value))
    found = [one for one in candidates if isinstance(one, keras.optimizers.Optimizer)]
    return list({id(one): one for one in found}.values())


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _leaves(entry)
    else:
        yield value


def unique(things: Iterable[T]) -> list[T]:
    """Variables, or layers, in their order, each once."""
    return list({id(one): one for one in things}.values())
