"""The shards of an embedding table, seen as the one variable that plain Keras has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = ["ShardedVariable"]

_BLOCK_BYTES = 32 * 1024 * 1024  # as much of a table as is held at once when it is loaded


class ShardedVariable:
    """The shards of one table, seen as the one variable that plain Keras has in their place.

    It holds no values: `numpy`, and whatever turns it into a tensor, brings the whole table here.

    Args:
        shards: Keras variables of shape `(rows of the shard, columns)`, in order.
        name: the name of the variable that they stand for.
    """

    def __init__(self, shards: Sequence[keras.Variable], name: str = "embeddings") -> None:
        self.shards = tuple(shards)
        self.name = name

    def like(self, shards: Sequence[keras.Variable], name: str) -> ShardedVariable:
        """Returns other variables that lie as this table's shards do, seen as one."""
        return ShardedVariable(shards, name)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole table."""
        return sum(int(shard.shape[0]) for shard in self.shards), int(self.shards[0].shape[1])

    @property
    def dtype(self) -> str:
        """The type of its elements, as Keras names it."""
        return str(self.shards[0].dtype)

    def numpy(self) -> Any:
        """Returns the whole table as an array, its rows in plain order."""
        parts = [np.asarray(shard.numpy()) for shard in self.shards]
        whole = np.empty(self.shape, parts[0].dtype)
        for k, part in enumerate(parts):
            whole[k :: len(parts)] = part
        return whole

    def assign(self, value: Any) -> None:
        """Sets the whole table, block by block.

        Args:
            value: what can be sliced by rows, of the table's shape: an array, a tensor or a
                dataset of an HDF5 file, of which one block at a time is read.

        Raises:
            ValueError: it has another shape.
        """
        rows, columns = self.shape
        if tuple(value.shape) != (rows, columns):
            raise ValueError(
                f"a value of shape {tuple(value.shape)} was given for the table {self.name!r} of "
                f"shape {(rows, columns)}: they must be the same"
            )
        count = len(self.shards)
        dtype = self.shards[0].value.dtype
        step = count * max(1, _BLOCK_BYTES // (columns * dtype.size * count))
        for start in range(0, rows, step):
            block = value[start : start + step]
            for k, shard in enumerate(self.shards):
                part = tf.cast(block[k::count], dtype)
                first = start // count
                with tf.device(shard.value.device):
                    indices = tf.range(first, first + part.shape[0])
                    tf.raw_ops.ResourceScatterUpdate(
                        resource=shard.value.handle, indices=indices, updates=part
                    )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        count, (rows, _) = len(self.shards), self.shape
        whole = tf.dynamic_stitch(
            [tf.range(k, rows, count) for k in range(count)],
            [tf.convert_to_tensor(shard.value) for shard in self.shards],
            name=name,
        )
        return whole if dtype is None else tf.cast(whole, dtype)

    def __repr__(self) -> str:
        return f"<Table {self.name}, shape={self.shape}, shards={len(self.shards)}>"
