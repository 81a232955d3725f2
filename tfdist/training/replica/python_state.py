"""What Python code keeps in a model's layers while a step is traced: each virtual replica's own.

Keras collects the losses of `add_loss` in the layers, and a step may leave a tensor in an attribute
in one place to take it up in another. Virtual replicas take turns in the middle of all that, on the
same layers: so what each has left there goes with it when it stops, and comes back with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfdist.compat import keras_layers

__all__ = ["PythonState", "Saved"]

Saved = list[tuple[dict[str, Any], list[tuple[Any, Any]]]]


class PythonState:
    """The attributes of a model and of all its layers, and what their lists, dicts and sets hold.

    Args:
        model: a built model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._owners: Sequence[keras.layers.Layer] = keras_layers.all_layers(model)

    def save(self) -> Saved:
        """Returns what is there now."""
        return [_saved(vars(owner)) for owner in self._owners]

    def restore(self, saved: Saved) -> None:
        """Has all be as it was when it was saved."""
        for owner, (attributes, contents) in zip(self._owners, saved, strict=True):
            now = vars(owner)
            now.clear()
            now.update(attributes)
            for container, content in contents:
                _set_content(container, content)


def _saved(attributes: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[Any, Any]]]:
    contents = [
        (value, kind(value))
        for value in attributes.values()
        for kind in (list, dict, set)
        if issubclass(type(value), kind) and not type(value).__module__.startswith("tensorflow")
    ]
    return dict(attributes), contents


def _set_content(container: Any, content: Any) -> None:
    """Sets what a container holds, past what a subclass of Keras' would make of it."""
    if isinstance(container, list):
        list.__setitem__(container, slice(None), content)
    else:
        kind: Any = type(content)
        kind.clear(container)
        kind.update(container, content)
