"""Batches on their way to a worker: several in one message, taken apart where they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfdist.training.data.stream import (
    count_rows,
    leaves,
    map_leaves,
    slice_rows,
    without_optionals,
)

__all__ = ["PackedBatches", "batch_of", "key_of", "pack", "specs_of"]


class PackedBatches(NamedTuple):
    """Some batches, one after the other.

    Attributes:
        batches: their rows, structured as the user's batch.
        sizes: int64 `[batches]`: the rows of each.
    """

    batches: Any
    sizes: tf.Tensor


def pack(batches: Sequence[Any]) -> list[PackedBatches]:
    """Puts batches together where their shapes allow it.

    Args:
        batches: of one dataset, in order.

    Returns:
        The batches in the same order; several in one where all but the first dimension agree.
    """
    packed: list[PackedBatches] = []
    alike: list[Any] = []
    for batch in map(without_optionals, batches):
        if alike and _inner(alike[0]) != _inner(batch):
            packed.append(_together(alike))
            alike = []
        alike.append(batch)
    return [*packed, _together(alike)] if alike else packed


def batch_of(rows: PackedBatches, number: tf.Tensor) -> Any:
    """Takes one batch out again; to be called in a graph.

    Args:
        rows: from `pack`.
        number: of the batch, an int32 scalar.
    """
    ends = tf.cumsum(rows.sizes)
    stop = ends[number]
    start = stop - rows.sizes[number]
    return map_leaves(lambda leaf: slice_rows(leaf, start, stop), rows.batches)


def types_of(batch: Any) -> Any:
    """The types of a batch's tensors, whatever the number of its rows."""

    def spec(leaf: Any) -> Any:
        if isinstance(leaf, tf.RaggedTensor):
            shape = tf.TensorShape([None, *leaf.shape[1:]])
            return tf.RaggedTensorSpec(shape, leaf.dtype, leaf.ragged_rank, leaf.row_splits.dtype)
        if isinstance(leaf, tf.SparseTensor):
            return tf.SparseTensorSpec(tf.TensorShape([None, *leaf.shape[1:]]), leaf.dtype)
        return tf.TensorSpec(tf.TensorShape([None, *leaf.shape[1:]]), leaf.dtype)

    return map_leaves(spec, batch)


def specs_of(rows: PackedBatches) -> PackedBatches:
    """The types of packed batches, whatever their number and sizes."""
    return PackedBatches(types_of(rows.batches), tf.TensorSpec([None], tf.int64))


def key_of(specs: Any) -> Any:
    """What tells functions that were traced for other types apart."""
    flat = tf.nest.flatten(specs, expand_composites=False)
    return (repr(tf.nest.map_structure(str, specs)), len(flat))


def _inner(batch: Any) -> list[Any]:
    return [
        None if isinstance(leaf, tf.RaggedTensor) else leaf.shape[1:].as_list()
        for leaf in leaves(batch)
    ]


def _together(batches: Sequence[Any]) -> PackedBatches:
    sizes = tf.constant([count_rows(batch) for batch in batches], tf.int64)
    if len(batches) == 1:
        return PackedBatches(batches[0], sizes)

    def join(*parts: Any) -> Any:
        if parts[0] is None:
            return None
        if isinstance(parts[0], tf.SparseTensor):
            return tf.sparse.concat(0, list(parts))
        return tf.concat(parts, 0)

    return PackedBatches(tf.nest.map_structure(join, *batches), sizes)
