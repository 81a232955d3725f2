"""Variables that live on parameter servers: read, and sent to, in few messages.

Each message between machines costs about as much as 100 KB on the wire, and a model has many small
variables: those of one server are packed into one tensor on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from tfdist.structures import Gradient

__all__ = ["fetch", "place_of", "to_servers"]

_SMALL_BYTES = 64 << 10


def place_of(variable: keras.Variable | str) -> str:
    """The device that a Keras variable lives on; that of a device is itself."""
    return variable if isinstance(variable, str) else str(variable.value.device)


def fetch(variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
    """Reads variables; to be called while a worker's function is traced.

    Args:
        variables: the true ones, of any shapes and dtypes.

    Returns:
        Their values, on the worker.
    """
    values: list[tf.Tensor | None] = [None] * len(variables)
    for place, indices in _packs((place_of(v), v.shape, v.value.dtype) for v in variables):
        with tf.device(place):
            read = [tf.convert_to_tensor(variables[i].value) for i in indices]
            if len(indices) > 1:
                packed = tf.concat([tf.reshape(value, [-1]) for value in read], 0)
        if len(indices) > 1:
            shapes = [variables[i].shape for i in indices]
            read = _unpack(packed, shapes)
        for i, value in zip(indices, read, strict=True):
            values[i] = value
    return [tf.identity(value) for value in values]


def to_servers(
    tensors: Sequence[Gradient], variables: Sequence[keras.Variable | str]
) -> list[Gradient]:
    """Sends each of some tensors of the worker to where its variable lives.

    Args:
        tensors: for each variable one of its shape, or `tf.IndexedSlices` of that.
        variables: Keras variables; for a tensor of another shape the server's device.

    Returns:
        The tensors, on the servers.
    """
    sent: list[Gradient | None] = [None] * len(tensors)
    kinds = (
        (place_of(variable), _shape_to_pack(tensor), tensor.dtype)
        for tensor, variable in zip(tensors, variables, strict=True)
    )
    for place, indices in _packs(kinds):
        there = [tensors[i] for i in indices]
        if len(indices) > 1:
            packed = tf.concat([tf.reshape(tensor, [-1]) for tensor in there], 0)
            with tf.device(place):
                there = _unpack(packed, [tensors[i].shape for i in indices])
        else:
            with tf.device(place):
                there = [_moved(there[0], variables[indices[0]])]
        for i, tensor in zip(indices, there, strict=True):
            sent[i] = tensor
    return sent


def _packs(
    kinds: Iterable[tuple[str, tf.TensorShape | None, tf.DType]],
) -> list[tuple[str, list[int]]]:
    """Groups the numbers of (place, shape, dtype) that travel together; large ones go alone."""
    packs: dict[tuple[str, tf.DType] | int, tuple[str, list[int]]] = {}
    for i, (place, shape, dtype) in enumerate(kinds):
        size = tf.TensorShape(shape).num_elements()
        small = size is not None and size * dtype.size <= _SMALL_BYTES
        packs.setdefault((place, dtype) if small else i, (place, []))[1].append(i)
    return list(packs.values())


def _shape_to_pack(tensor: Gradient) -> tf.TensorShape | None:
    """A tensor's shape; slices have none that is known, and travel alone."""
    return None if isinstance(tensor, tf.IndexedSlices) else tensor.shape


def _moved(tensor: Gradient, variable: keras.Variable | str) -> Gradient:
    """A tensor, or slices, on the current device; the shape of slices is known there."""
    if not isinstance(tensor, tf.IndexedSlices):
        return tf.identity(tensor)
    assert not isinstance(variable, str)
    shape = tf.constant(tuple(variable.shape), tf.int32)
    # TensorFlow would leave an identity out, as a lookup has brought the indices here already, and
    # have the worker hand them to a condition.
    indices = tf.ensure_shape(tensor.indices, tensor.indices.shape)
    return tf.IndexedSlices(tf.identity(tensor.values), indices, shape)


def _unpack(packed: tf.Tensor, shapes: Sequence[tf.TensorShape]) -> list[tf.Tensor]:
    sizes = [tf.TensorShape(shape).num_elements() for shape in shapes]
    parts = tf.split(packed, sizes)
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
