"""Where the parts of an update wait on the servers, until all of them are there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tfdist.errors import PlugError
from tfdist.strategies.server_variables import place_of
from tfdist.structures import Gradient
from tfdist.training.parameter_server.server_updates import Sent, ServerUpdates, by_server

__all__ = ["PartBuffers", "UpdatesInPlace"]


class PartBuffers:
    """Keeps for each part of an update what is to be added to variables, next to them.

    Sparse gradients stay sparse: the rows of all parts are those of the whole batch, in its order.

    Args:
        parts: of an update, at most.
        writes: to the servers; their slots are the parts.
    """

    def __init__(self, parts: int, writes: ServerUpdates) -> None:
        self._parts = parts
        self._writes = writes
        self._buffers: dict[int, tf.Variable] = {}
        self._rows: dict[int, tuple[tf.Variable, tf.DType, tf.DType]] = {}
        self._variables: list[keras.Variable] = []

    def put(
        self, part: tf.Tensor, tensors: Sequence[Gradient], variables: Sequence[keras.Variable]
    ) -> None:
        """Sends what a part has found; to be called while its step is traced.

        Args:
            part: its number, an int64 scalar.
            tensors: one for each variable, of its shape and dtype, or `tf.IndexedSlices` of it.
            variables: on servers.

        Raises:
            PlugError: these are other variables than another trace has had.
        """
        if self._variables and [*map(id, self._variables)] != [*map(id, variables)]:
            raise PlugError(
                "train_step changes other variables for batches of another shape, but workers "
                "compute parts of one update: leave backup_workers out"
            )
        self._variables = list(variables)
        for tensor, variable in zip(tensors, variables, strict=True):
            self._make(tensor, variable)
        own = by_server(zip(tensors, variables, strict=True))

        def update(place: str, there: list[Gradient]) -> None:
            *values, where = there
            for (_, variable), value in zip(own[place], values, strict=True):
                self._set(variable, where, value)

        self._writes.write({place: [*pairs, (part, None)] for place, pairs in own.items()}, update)

    def sums(self, variables: Sequence[keras.Variable], parts: tf.Tensor) -> list[Gradient]:
        """Adds up, on the servers, what was put for each; to be called in a graph.

        Args:
            variables: of which something was put.
            parts: how many this update has, an int32 scalar: the first ones.
        """
        found: list[Gradient] = []
        for variable in variables:
            with tf.device(place_of(variable)):
                if id(variable) in self._rows:
                    found.append(self._joined(variable, parts))
                else:
                    found.append(tf.reduce_sum(self._buffers[id(variable)][:parts], 0))
        return found

    def first(self, variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
        """What the first part has put for each, where it is the same in all parts."""
        found = []
        for variable in variables:
            with tf.device(place_of(variable)):
                found.append(self._buffers[id(variable)][0])
        return found

    def _make(self, tensor: Gradient, variable: keras.Variable) -> None:
        if id(variable) in self._buffers or id(variable) in self._rows:
            return
        with tf.init_scope(), tf.device(place_of(variable)):
            if not isinstance(tensor, tf.IndexedSlices):
                zeros = tf.zeros([self._parts, *variable.shape], variable.value.dtype)
                self._buffers[id(variable)] = tf.Variable(zeros, trainable=False)
                return
            # Bytes, as TensorFlow ends a worker that hears of a server's variable without a shape.
            empty = tf.Variable(tf.fill([self._parts, 2], ""), trainable=False)
            self._rows[id(variable)] = empty, tensor.dtype, tensor.indices.dtype

    def _set(self, variable: keras.Variable, part: tf.Tensor, value: Gradient) -> None:
        if isinstance(value, tf.IndexedSlices):
            buffer = self._rows[id(variable)][0]
            value = tf.stack([tf.io.serialize_tensor(one) for one in (value.values, value.indices)])
        else:
            buffer = self._buffers[id(variable)]
        tf.raw_ops.ResourceScatterUpdate(resource=buffer.handle, indices=part, updates=value)

    def _joined(self, variable: keras.Variable, parts: tf.Tensor) -> tf.IndexedSlices:
        """The rows that all parts have looked up, one part's behind the other's."""
        buffer, dtype, of_indices = self._rows[id(variable)]
        written = buffer.read_value()
        shape = [None, *variable.shape[1:]]
        none = tf.zeros([0, *shape[1:]], dtype), tf.zeros([0], of_indices)

        def read(part: int) -> tuple[tf.Tensor, tf.Tensor]:
            values = tf.io.parse_tensor(written[part, 0], dtype)
            indices = tf.io.parse_tensor(written[part, 1], of_indices)
            return tf.ensure_shape(values, shape), tf.ensure_shape(indices, [None])

        found = [
            tf.cond(tf.less(part, parts), functools.partial(read, part), lambda: none)
            for part in range(self._parts)
        ]
        values, indices = (tf.concat(those, 0) for those in zip(*found, strict=True))
        dense = tf.constant(tuple(variable.shape), tf.int32)
        return tf.IndexedSlices(values, indices, dense)


class UpdatesInPlace(ServerUpdates):
    """Writes of a program of the chief, which sends nothing to where it is already."""

    def __init__(self) -> None:
        super().__init__(1)

    def write(self, sent: Sent, update: Callable[[str, list[Gradient]], None]) -> None:
        """Has each server write, from its own tensors; see `ServerUpdates`."""
        for place, own in sent.items():
            self._make(update, place, [tensor for tensor, _ in own])
