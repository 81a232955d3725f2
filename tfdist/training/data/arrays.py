"""Arrays that every worker holds: each gathers only its own rows of every global batch.

Keras' data adapter draws the order of the rows; here it is asked to do so for their numbers alone.
So the global batches, shuffled or not, are those of one process, row by row:

    numbers of a global batch  ──►  this process's replicas' numbers  ──►  their rows, gathered
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import keras_data
from tfdist.compat.keras_data import DataAdapter
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Count, Data, Leaf, Nest
from tfdist.training.data.fingerprint import fingerprint_of, fingerprint_of_order
from tfdist.training.data.sharding import bounds_of, make_step
from tfdist.training.data.stream import Step

__all__ = ["ArrayRows", "as_tensors"]


class ArrayRows:
    """Arrays as a dataset of global batches, of which only parts are ever read.

    Args:
        adapter: Keras' data adapter of the arrays.
        arrays: what `keras_data.arrays_of` returned for it.
        shuffle: as in `keras.Model.fit`.
    """

    def __init__(self, adapter: DataAdapter, arrays: Nest, shuffle: bool) -> None:
        numbers = np.arange(keras_data.number_of_rows(adapter))
        order = keras_data.data_adapter(numbers, batch_size=adapter.batch_size, shuffle=shuffle)
        # The order's own options are Keras': no copy of the arrays is made to optimize the graph.
        self._batches = tf.data.Dataset.zip(
            order.get_tf_dataset(), tf.data.Dataset.from_tensors(arrays).repeat()
        )

    def whole(self) -> tf.data.Dataset:
        """Returns the dataset of global batches: its specs tell how a model is built."""
        return self._batches.map(lambda numbers, arrays: keras_data.gather_rows(arrays, numbers))

    def share_out(
        self, layout: ReplicaLayout, skip: int = 0, numbers_alone: bool = False
    ) -> tf.data.Dataset:
        """Returns the dataset of `Step`s for this process's replicas, without the first.

        Args:
            layout: the replicas.
            skip: how many steps to leave out.
            numbers_alone: the parts are the numbers of the rows; see `resident`.
        """

        def one(numbers: tf.Tensor, arrays: Nest) -> Step:
            bounds = bounds_of(_length(numbers), layout)
            parts: list[Nest] = [numbers[low:high] for low, high in bounds.rows]
            if not numbers_alone:
                parts = [keras_data.gather_rows(arrays, part) for part in parts]
            fingerprint = tf.zeros((), tf.int64)
            if layout.workers > 1:
                # The one row that a worker may read beside its own: all compare it.
                first = keras_data.gather_rows(arrays, numbers[:1])
                fingerprint = fingerprint_of(first) + fingerprint_of_order(numbers)
            return make_step(parts, bounds, fingerprint)

        return self._batches.skip(skip).map(
            tf.autograph.experimental.do_not_convert(one), num_parallel_calls=tf.data.AUTOTUNE
        )


def _length(numbers: tf.Tensor) -> Count:
    static = numbers.shape[0]
    return tf.shape(numbers, tf.int64)[0] if static is None else static


def as_tensors(batch: Data) -> Nest:
    """Turns a batch of arrays (in any structure, with None for what is absent) into tensors."""
    return tf.nest.map_structure(lambda leaf: None if leaf is None else _as_tensor(leaf), batch)


def _as_tensor(leaf: object) -> Leaf:
    if isinstance(leaf, tf.Tensor | tf.RaggedTensor | tf.SparseTensor):
        return leaf
    array = np.asarray(leaf)
    if array.dtype == np.float64:  # as Keras does with every array it is given
        array = array.astype(keras.backend.floatx())
    return tf.convert_to_tensor(array)
