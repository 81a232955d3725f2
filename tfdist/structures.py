"""What passes through tfdist and has no class of its own, by the name that annotations give it.

Keras and TensorFlow carry no types, so that mypy takes their classes for `Any`: in an annotation
they tell a reader what comes. It does check that nobody looks into a `Nest`, or into a `Data`,
without asking first what it is. Imports neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ParamSpec, TypeAlias, TypeVar

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

__all__ = [
    "Callbacks",
    "Count",
    "Data",
    "Gradient",
    "Leaf",
    "Logs",
    "Nest",
    "P",
    "T",
    "Traced",
    "Variable",
]

T = TypeVar("T")
"""Whatever it is that goes in: the same comes out."""

P = ParamSpec("P")
"""What a function takes that another one stands in for."""

Leaf: TypeAlias = "tf.Tensor | tf.RaggedTensor | tf.SparseTensor | tf.TypeSpec"
"""One tensor of a batch, dense, ragged or sparse; or what is known of it before it is there."""

Nest: TypeAlias = "Leaf | np.ndarray | tuple[Nest, ...] | list[Nest] | dict[str, Nest] | None"
"""What `tf.nest` and `keras.tree` walk: tensors or arrays in tuples, lists and dicts, or one alone.

A batch is one, `(x,)`, `(x, y)` or `(x, y, sample_weight)`, and so is each of these; None stands
for what is absent. So are a model's inputs, its outputs and the specs of either.
"""

Data: TypeAlias = object
"""What a user gives to `fit` and the others, before anybody has looked at it.

Arrays, tensors, a nest of them, a `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator, or a
function of `tf.distribute.InputContext`.
"""

Gradient: TypeAlias = "tf.Tensor | tf.IndexedSlices"
"""Of one variable: dense, or sparse where only some rows were looked up."""

Variable: TypeAlias = "keras.Variable | tf.Variable"
"""One of Keras', or the one of TensorFlow that it holds."""

Count: TypeAlias = "int | tf.Tensor"
"""A number of rows, or of a replica: Python's where it is known, else an integer scalar."""

Traced: TypeAlias = "tf.types.experimental.PolymorphicFunction"
"""What `tf.function` makes of a function."""

Logs: TypeAlias = "dict[str, float | np.ndarray]"
"""Metrics by name, as callbacks and `History` get them; an array where one has several values."""

Callbacks: TypeAlias = "keras.callbacks.Callback | Iterable[Callbacks] | None"
"""What `fit` takes as `callbacks`: one, a `CallbackList`, lists of them at any depth, or none."""
