"""Keras' data adapters, called as Keras calls them: what `fit` accepts there is accepted here."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import keras
import tensorflow as tf

from tfdist.compat import names
from tfdist.compat.names import keras_array_slicing, keras_data_adapters, keras_data_utils
from tfdist.structures import Data, Nest

__all__ = [
    "DataAdapter",
    "arrays_of",
    "class_weight_to_sample_weights",
    "data_adapter",
    "gather_rows",
    "makes_ahead",
    "number_of_rows",
    "read_by",
    "smallest_batch",
    "split_validation",
    "unpack",
]


class DataAdapter(Protocol):
    """What tfdist asks of Keras' data adapters; None stands for what nobody knows beforehand."""

    batch_size: int | None
    num_batches: int | None
    has_partial_batch: bool | None
    partial_batch_size: int | None

    def get_tf_dataset(self) -> tf.data.Dataset:
        """The batches."""


unpack = names.of(keras_data_utils, "unpack_x_y_sample_weight")

class_weight_to_sample_weights = names.of(keras_data_utils, "class_weight_to_sample_weights")


def data_adapter(
    x: Data,
    y: Data = None,
    sample_weight: Data = None,
    *,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    shuffle: bool = False,
    class_weight: Mapping[int, float] | None = None,
) -> DataAdapter:
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


def read_by(adapter: Any, batches: Callable[[], Iterator[Any]]) -> None:
    """Has Keras' adapter of a generator read in each pass what `batches` gives then.

    By itself it begins each pass with the batches at which it has looked before the first.
    """
    adapter.generator = batches


def makes_ahead(adapter: DataAdapter) -> bool:
    """Whether threads or processes make the batches ahead: a `PyDataset` with `workers`."""
    return getattr(adapter, "enqueuer", None) is not None


def smallest_batch(adapter: DataAdapter) -> int | None:
    """Rows of the smallest batch that a data adapter gives, or None where it cannot tell."""
    try:
        size = adapter.partial_batch_size or adapter.batch_size
        return None if adapter.has_partial_batch is None or size is None else int(size)
    except NotImplementedError:
        return None


def split_validation(
    x: Data, y: Data, sample_weight: Data, fraction: float
) -> tuple[tuple[Data, Data, Data], tuple[Data, Data, Data]]:
    """Splits arrays as `fit(validation_split=...)` does: the last `fraction` is held out."""
    return keras_array_slicing.train_validation_split(
        (x, y, sample_weight), validation_split=fraction
    )


def arrays_of(adapter: DataAdapter) -> Nest:
    """Returns the tensors that Keras' adapter of arrays batches, weights too; None for others."""
    if not isinstance(adapter, keras_data_adapters.ArrayDataAdapter):
        return None
    tensors = keras_array_slicing.convert_to_sliceable(adapter._inputs, target_backend="tensorflow")
    return keras.tree.lists_to_tuples(tensors)


def number_of_rows(adapter: Any) -> int:
    """Returns how many rows the arrays of Keras' adapter of arrays have."""
    return int(adapter._num_samples)


def gather_rows(arrays: Nest, numbers: tf.Tensor) -> Nest:
    """Gathers the rows of these numbers from `arrays_of`'s tensors, as Keras makes a batch."""

    def one(array: Nest) -> Nest:
        if isinstance(array, keras_array_slicing.TensorflowSparseWrapper):
            return keras_array_slicing.slice_tensorflow_sparse_wrapper(array, numbers)
        if isinstance(array, list | tuple | dict):
            return None  # go on inside
        return tf.gather(array, numbers, axis=0) if tf.is_tensor(array) else array

    return keras.tree.traverse(one, arrays)
