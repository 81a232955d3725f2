"""Keras' data adapters, called as Keras calls them: what `fit` accepts there is accepted here."""

from __future__ import annotations

import types
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat import names
from tfdist.compat.names import keras_array_slicing, keras_data_adapters, keras_data_utils

__all__ = [
    "arrays_of",
    "class_weight_to_sample_weights",
    "data_adapter",
    "gather_rows",
    "number_of_rows",
    "smallest_batch",
    "split_validation",
    "unpack",
]


unpack = names.of(keras_data_utils, "unpack_x_y_sample_weight")


class_weight_to_sample_weights = names.of(keras_data_utils, "class_weight_to_sample_weights")


def data_adapter(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    shuffle: Any = False,
    class_weight: Any = None,
) -> Any:
    """Returns Keras' own data adapter for these arguments of `fit`, `evaluate` or `predict`."""
    if isinstance(x, tf.data.Dataset | types.GeneratorType):
        shuffle = False  # it means nothing there, and Keras would warn of its own default
    return keras_data_adapters.get_data_adapter(
        x=x,
        y=y,
        sample_weight=sample_weight,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        shuffle=shuffle,
        class_weight=class_weight,
    )


def smallest_batch(adapter: Any) -> int | None:
    """Rows of the smallest batch that a data adapter gives, or None where it cannot tell."""
    try:
        partial, size = adapter.partial_batch_size, adapter.batch_size
        return None if adapter.has_partial_batch is None else int(partial or size)
    except NotImplementedError:
        return None


def split_validation(x: Any, y: Any, sample_weight: Any, fraction: float) -> Any:
    """Splits arrays as `fit(validation_split=...)` does: the last `fraction` is held out."""
    return keras_array_slicing.train_validation_split(
        (x, y, sample_weight), validation_split=fraction
    )


def arrays_of(adapter: Any) -> Any | None:
    """Returns the tensors that Keras' adapter of arrays batches, weights too; None for others."""
    if not isinstance(adapter, keras_data_adapters.ArrayDataAdapter):
        return None
    tensors = keras_array_slicing.convert_to_sliceable(adapter._inputs, target_backend="tensorflow")
    return keras.tree.lists_to_tuples(tensors)


def number_of_rows(adapter: Any) -> int:
    """Returns how many rows the arrays of Keras' adapter of arrays have."""
    return int(adapter._num_samples)


def gather_rows(arrays: Any, numbers: tf.Tensor) -> Any:
    """Gathers the rows of these numbers from `arrays_of`'s tensors, as Keras makes a batch."""

    def one(array: Any) -> Any:
        if isinstance(array, keras_array_slicing.TensorflowSparseWrapper):
            return keras_array_slicing.slice_tensorflow_sparse_wrapper(array, numbers)
        if isinstance(array, list | tuple | dict):
            return None  # go on inside
        return tf.gather(array, numbers, axis=0) if tf.is_tensor(array) else array

    return keras.tree.traverse(one, arrays)
