"""Values of Keras and TensorFlow, as they travel between processes; see `pickling`.

Nothing is imported here until there is such a value, or one is read.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from tfdist.functions.history import FitHistory

if TYPE_CHECKING:
    import keras

__all__ = [
    "ADVICE",
    "Kind",
    "SharedName",
    "kind_of",
    "reduce_history",
    "reduce_model",
    "reduce_tensor",
]

Kind = Literal["model", "part", "history", "tensor", "variable", "dataset", "strategy"]

_INSIDE = "make it inside of the function"

ADVICE: Mapping[Literal["there", "back"], Mapping[Kind, str]] = {
    "there": {
        "tensor": "a task can have none before its strategy; give the array, tensor.numpy()",
        "variable": "a task can have none before its strategy; give the array, variable.numpy()",
        "dataset": f"a dataset lives in one process; {_INSIDE}, or give the arrays it is made of",
        "strategy": f"a strategy belongs to one process; {_INSIDE} with tfdist.strategy()",
    },
    "back": {
        "dataset": "a dataset lives in one process; return the arrays that it gives",
        "strategy": "a strategy belongs to one process; return what was computed with it",
    },
}
"""Why a kind of value cannot go there, and what to do; the others can."""


class SharedName(ValueError):
    """Two classes or functions of a model have one name in its file, which would swap them."""


def kind_of(obj: object) -> Kind | None:
    """What a value is to Keras or TensorFlow; None where it is neither's.

    Args:
        obj: The value; a class is none, nor is what was made before they were imported.
    """
    if isinstance(obj, type):
        return None
    keras, tf = sys.modules.get("keras"), sys.modules.get("tensorflow")
    if keras is not None and hasattr(keras, "Model"):  # it has been imported to its end
        if isinstance(obj, keras.Model):
            return "model"
        if isinstance(obj, keras.callbacks.History):
            return "history"
        if isinstance(obj, keras.Variable):
            return "variable"
        if isinstance(obj, (keras.Layer, keras.Optimizer, keras.Metric)):
            return "part"
    if tf is not None and hasattr(tf, "Tensor"):
        if isinstance(obj, (tf.Variable, tf.Tensor, tf.RaggedTensor, tf.SparseTensor)):
            return "variable" if isinstance(obj, tf.Variable) else "tensor"
        if isinstance(obj, (tf.data.Dataset, tf.data.Iterator)):
            return "dataset"
        if isinstance(obj, tf.distribute.Strategy):
            return "strategy"
    return None


def reduce_model(model: keras.Model) -> tuple[Any, ...]:
    """A model as its .keras file, and the classes and functions that no file names.

    Raises:
        SharedName: The file cannot tell two of them apart; the message names both.
    """
    with tempfile.TemporaryDirectory(prefix="tfdist_") as folder:
        own = _own_objects(model)
        path = os.path.join(folder, "model.keras")
        model.save(path)
        with open(path, "rb") as file:
            saved = file.read()
    return _load_model, (saved, own)


def reduce_history(history: keras.callbacks.History) -> tuple[Any, ...]:
    """What `fit` has returned, without the model that it holds."""
    params = {
        name: value
        for name, value in (history.params or {}).items()
        if value is None or isinstance(value, bool | int | float | str)
    }
    return FitHistory, (history.history, list(history.epoch), params)


def reduce_tensor(tensor: Any) -> tuple[Any, ...]:
    """A tensor or a variable as an array; a ragged one as lists, a sparse one as a dense one."""
    import tensorflow as tf

    if isinstance(tensor, tf.RaggedTensor):
        return list, (tensor.to_list(),)
    if isinstance(tensor, tf.SparseTensor):
        tensor = tf.sparse.to_dense(tensor)
    return _itself, (tensor.numpy(),)


def _itself(value: Any) -> Any:
    return value


def _load_model(saved: bytes, own: dict[str, Any]) -> keras.Model:
    import keras

    with tempfile.TemporaryDirectory(prefix="tfdist_") as folder:
        path = os.path.join(folder, "model.keras")
        with open(path, "wb") as file:
            file.write(saved)
        return keras.models.load_model(path, custom_objects=own, safe_mode=False)


def _own_objects(model: keras.Model) -> dict[str, Any]:
    """The classes and functions in a model that are not Keras' own, by each of their names.

    Raises:
        SharedName: Two of them, or one and a function of Keras, have one name.
    """
    import keras

    found: dict[str, Any] = {}
    named: dict[str, list[Any]] = {}
    of_keras: dict[str, Any] = {}
    for value in _inside(model):
        own = value if inspect.isfunction(value) else type(value)
        if own.__name__ == "<lambda>":  # its code is in the file
            continue
        if _is_of_keras(own):
            if own is value:
                of_keras[own.__name__] = own
        elif own.__module__ != "builtins":
            named.setdefault(own.__name__, []).append(own)
            key = keras.saving.get_registered_name(own)
            _check_same(key, found.setdefault(key, own), own)
    for name, owners in named.items():
        if all(own is owners[0] for own in owners):  # else each is found as it is registered
            _check_same(name, found.setdefault(name, owners[0]), owners[0])
        for own in owners:
            if inspect.isfunction(own):
                if keras.saving.get_registered_name(own) == name:
                    # Keras finds an activation of such a name in its own module, before any other.
                    _check_same(name, own, getattr(keras.activations, name, own))
                _check_same(name, own, of_keras.get(name, own))
    return found


def _check_same(name: str, one: Any, other: Any) -> None:
    if one is not other:
        what = "functions" if inspect.isfunction(one) else "classes"
        names = " and ".join(f"{own.__module__}.{own.__qualname__}" for own in (one, other))
        raise SharedName(
            f"two different {what} of the name {name!r}, {names}, which its file cannot tell "
            "apart: give each a __name__ of its own"
        )


def _inside(model: keras.Model) -> Iterator[object]:
    """A model, its layers, its losses, its functions ..., each once."""
    left: list[object] = [model]
    seen: set[int] = set()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple | set):
            left += value
        elif inspect.isfunction(value):
            yield value
        elif any(_is_of_keras(kind) for kind in type(value).__mro__):
            yield value
            left += [
                one
                for one in getattr(value, "__dict__", {}).values()
                if getattr(getattr(one, "__wrapped__", None), "__self__", None) is not value
            ]  # without Keras' wrappers of the object's own methods, as of build


def _is_of_keras(kind: Any) -> bool:
    return str(kind.__module__).partition(".")[0] == "keras"
