"""The parts of a weight on several devices, seen as the one variable that plain Keras has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = ["SplitWeight", "along", "bounds", "number_of", "whole_of"]

_NUMBER, _WHOLE = "_tfdist_part_number", "_tfdist_whole_weight"


def bounds(length: int, parts: int) -> list[tuple[int, int]]:
    """Where each of so many parts of an axis begins and ends; they differ by one at most."""
    return [(length * i // parts, length * (i + 1) // parts) for i in range(parts)]


def along(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """What cuts a part of an axis out of an array or a tensor."""
    return (*[slice(None)] * axis, slice(start, stop))


def number_of(variable: keras.Variable) -> int:
    """Which part of a weight a variable is; 0 for one that is whole."""
    return int(getattr(variable, _NUMBER, 0))


def whole_of(variable: keras.Variable) -> SplitWeight | None:
    """The weight that a variable is a part of; None of one that is whole."""
    found = getattr(variable, _WHOLE, None)
    return found if isinstance(found, SplitWeight) else None


class SplitWeight:
    """Parts of one weight, seen as that weight; it holds no values.

    `numpy`, and whatever turns it into a tensor, brings the whole weight here.

    Args:
        shards: Keras variables, in order.
        axis: along which they follow each other.
        name: of the weight.
    """

    def __init__(self, shards: Sequence[keras.Variable], axis: int, name: str) -> None:
        self.shards = tuple(shards)
        self.axis = axis
        self.name = name
        for number, shard in enumerate(self.shards):
            object.__setattr__(shard, _NUMBER, number)
            object.__setattr__(shard, _WHOLE, self)

    def like(self, shards: Sequence[keras.Variable], name: str) -> SplitWeight:
        """Returns other variables that lie as these do, seen as one."""
        return SplitWeight(shards, self.axis, name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole weight."""
        shape = [int(n) for n in self.shards[0].shape]
        shape[self.axis] = sum(int(shard.shape[self.axis]) for shard in self.shards)
        return tuple(shape)

    @property
    def dtype(self) -> str:
        """The type of its elements, as Keras names it."""
        return str(self.shards[0].dtype)

    @property
    def path(self) -> str:
        """As plain Keras has it."""
        return f"{self.shards[0].path.rpartition('/')[0]}/{self.name}"

    @property
    def trainable(self) -> bool:
        """Whether the parts are trained."""
        return bool(self.shards[0].trainable)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for shard in self.shards:
            shard.trainable = value

    def numpy(self) -> Any:
        """Returns the whole weight as an array."""
        return np.concatenate([np.asarray(one.numpy()) for one in self.shards], self.axis)

    def own(self, value: Any, number: int) -> Any:
        """Cuts a part out of a whole value."""
        start, stop = bounds(self.shape[self.axis], len(self.shards))[number]
        return value[along(self.axis, start, stop)]

    def assign(self, value: Any) -> None:
        """Sets the whole weight, part by part.

        Args:
            value: an array, a tensor or a dataset of an HDF5 file, of the weight's shape.

        Raises:
            ValueError: it has another shape.
        """
        if tuple(value.shape) != self.shape:
            raise ValueError(
                f"a value of shape {tuple(value.shape)} was given for the weight {self.path!r} of "
                f"shape {self.shape}: they must be the same"
            )
        for number, shard in enumerate(self.shards):
            part = self.own(value, number)
            shard.assign(part if tf.is_tensor(part) else np.asarray(part))

    @property
    def value(self) -> tf.Tensor:
        """The whole weight as a tensor, here."""
        return tf.convert_to_tensor(self)

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    def assign_add(self, value: Any) -> None:
        """Adds to the whole weight."""
        self.assign(self.value + tf.cast(value, self.dtype))

    def assign_sub(self, value: Any) -> None:
        """Subtracts from the whole weight."""
        self.assign(self.value - tf.cast(value, self.dtype))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        values = [tf.convert_to_tensor(shard.value) for shard in self.shards]
        whole = tf.concat(values, self.axis, name=name or "concat")
        return whole if dtype is None else tf.cast(whole, dtype)

    def __repr__(self) -> str:
        return f"<SplitWeight {self.path}, shape={self.shape}, parts={len(self.shards)}>"


def _operator(name: str) -> Callable[..., Any]:
    def computed(self: SplitWeight, *others: Any) -> Any:
        # What a tensor does not know is left to the other side, as Python has it.
        return getattr(self.value, name)(*others)

    return computed


for _name in (
    *("__getitem__", "__neg__", "__abs__"),
    *("__lt__", "__le__", "__gt__", "__ge__"),
    *(
        f"__{side}{name}__"
        for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
        for side in ("", "r")
    ),
):
    setattr(SplitWeight, _name, _operator(_name))
