"""The vectors of a descent on parameter servers, each beside the weights that it belongs to.

A vector is cut as the weights are: a server keeps the part of every vector that goes with its
variables, as a row of one matrix. A command of the coordinator is one message to every server and
one scalar back; inner products are summed in float64, server by server in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.optimize.portion_sums import Merge
from tfdist.optimize.vector_space import BASE, DIRECTION, GRADIENT
from tfdist.strategies.server_variables import place_of
from tfdist.structures import Traced
from tfdist.training.tracing import traced

__all__ = ["ServerVectors"]


class ServerVectors:
    """Vectors as long as a model's weights, and slots for gradients; see `VectorSpace`.

    Args:
        weights: the model's trainable variables, of one dtype.
        rows: how many vectors.
        slots: how many gradients of portions.

    Attributes:
        weights: for each server the variables that it keeps, in order.
        slots: for each server a variable `[slots, parameters there]`.
        commands: how many were given.
    """

    def __init__(self, weights: Sequence[keras.Variable], rows: int, slots: int) -> None:
        self.weights: dict[str, list[keras.Variable]] = {}
        for variable in weights:
            self.weights.setdefault(place_of(variable), []).append(variable)
        self.dtype = tf.as_dtype(weights[0].value.dtype)
        self._rows = self._zeros(rows)
        self.slots = self._zeros(slots)
        self._functions: dict[str, Traced] = {}
        self.commands = 0
        self._trace()

    def _zeros(self, rows: int) -> dict[str, tf.Variable]:
        found = {}
        for place, variables in self.weights.items():
            size = sum(int(np.prod(tuple(v.shape))) for v in variables)
            with tf.init_scope(), tf.device(place):
                found[place] = tf.Variable(tf.zeros([rows, size], self.dtype), trainable=False)
        return found

    def _trace(self) -> None:
        """Gives each command once, so that nothing changes.

        TensorFlow tells all machines of a new function, and holds this whole process up until the
        last has answered: later one of them may be lost, or stopped.
        """
        self.dot(BASE, BASE)
        self.add(0.0, BASE, BASE)
        self.add_and_dot(0.0, BASE, BASE, BASE)
        self.scale(1.0, BASE)
        self.copy(BASE, BASE)
        self.largest(BASE)
        self.merge([(0, 0)])
        self.take_gradient(0, 1.0)
        self.note_base()
        self.is_at_base()
        self.go(0.0)

    # ------------------------------------------------------------ commands of a descent

    def dot(self, one: int, other: int) -> float:
        """Returns the inner product of two vectors."""

        def on(place: str, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
            x, y = (tf.cast(self._row(place, i), tf.float64) for i in (a, b))
            return tf.reduce_sum(x * y)

        return self._ask("dot", on, tf.add_n, one, other)

    def largest(self, which: int) -> float:
        """Returns the largest absolute value in a vector; NaN where one is none."""

        def on(place: str, a: tf.Tensor) -> tf.Tensor:
            values = tf.cast(tf.abs(self._row(place, a)), tf.float64)
            none = tf.reduce_any(tf.math.is_nan(values))
            nan = tf.constant(np.nan, tf.float64)
            return tf.where(none, nan, tf.reduce_max(values, 0) if values.shape[0] else nan)

        return self._ask("largest", on, lambda parts: tf.reduce_max(tf.stack(parts)), which)

    def add(self, factor: float, one: int, to: int) -> None:
        """Adds a multiple of one vector to another one."""

        def on(place: str, c: tf.Tensor, a: tf.Tensor, b: tf.Tensor) -> None:
            self._set(place, b, self._row(place, b) + self._as_own(c) * self._row(place, a))

        self._tell("add", on, factor, one, to)

    def add_and_dot(self, factor: float, one: int, to: int, other: int) -> float:
        """Adds a multiple of one vector to another one; returns its product with a third."""

        def on(place: str, c: tf.Tensor, a: tf.Tensor, b: tf.Tensor, d: tf.Tensor) -> tf.Tensor:
            value = self._row(place, b) + self._as_own(c) * self._row(place, a)
            self._set(place, b, value)
            third = tf.cast(self._row(place, d), tf.float64)
            return tf.reduce_sum(third * tf.cast(value, tf.float64))

        return self._ask("add_and_dot", on, tf.add_n, factor, one, to, other)

    def scale(self, factor: float, which: int) -> None:
        """Multiplies a vector."""

        def on(place: str, c: tf.Tensor, a: tf.Tensor) -> None:
            self._set(place, a, self._as_own(c) * self._row(place, a))

        self._tell("scale", on, factor, which)

    def copy(self, source: int, target: int) -> None:
        """Makes a vector equal to another one."""

        def on(place: str, a: tf.Tensor, b: tf.Tensor) -> None:
            self._set(place, b, self._row(place, a))

        self._tell("copy", on, source, target)

    # ------------------------------------------------------------ the weights

    def note_base(self) -> None:
        """Copies the model's weights to `BASE`."""

        def on(place: str) -> None:
            values = [tf.reshape(v.value, [-1]) for v in self.weights[place]]
            self._set(place, tf.constant(BASE), tf.concat(values, 0))

        self._tell("note_base", on)

    def is_at_base(self) -> bool:
        """Whether the model's weights are `BASE` to the last bit."""

        def on(place: str) -> tf.Tensor:
            values = tf.concat([tf.reshape(v.value, [-1]) for v in self.weights[place]], 0)
            base = self._row(place, tf.constant(BASE))
            return tf.cast(tf.reduce_all(tf.equal(values, base)), tf.float64)

        return self._ask("is_at_base", on, lambda parts: tf.reduce_min(tf.stack(parts))) == 1.0

    def go(self, step: float) -> None:
        """Sets the model's weights to `BASE` plus so many times `DIRECTION`."""

        def on(place: str, c: tf.Tensor) -> None:
            # Where the step is 0 a direction that is not finite leaves no trace.
            moved = tf.math.multiply_no_nan(
                self._row(place, tf.constant(DIRECTION)), self._as_own(c)
            )
            values = self._row(place, tf.constant(BASE)) + moved
            sizes = [int(np.prod(tuple(v.shape))) for v in self.weights[place]]
            parts = tf.split(values, sizes)
            for variable, part in zip(self.weights[place], parts, strict=True):
                variable.value.assign(tf.reshape(part, variable.shape))

        self._tell("go", on, step)

    # ------------------------------------------------------------ gradients of portions

    def merge(self, merges: Sequence[Merge]) -> None:
        """Adds slots to slots, in order.

        Args:
            merges: pairs of slots: the second is added to the first.
        """

        def on(place: str, pairs: tf.Tensor) -> None:
            handle = self.slots[place].handle

            def body(i: tf.Tensor) -> tuple[tf.Tensor]:
                to, other = tf.unstack(pairs[i])
                value = tf.raw_ops.ResourceGather(resource=handle, indices=other, dtype=self.dtype)
                before = tf.raw_ops.ResourceGather(resource=handle, indices=to, dtype=self.dtype)
                tf.raw_ops.ResourceScatterUpdate(
                    resource=handle, indices=to, updates=before + value
                )
                return (i + 1,)

            tf.while_loop(
                lambda i: i < tf.shape(pairs)[0], body, [tf.constant(0)], parallel_iterations=1
            )

        if merges:
            self._tell("merge", on, np.asarray(merges, np.int32).reshape([-1, 2]))

    def take_gradient(self, slot: int, total: float) -> None:
        """Makes `GRADIENT` what is in a slot, divided by a number."""

        def on(place: str, a: tf.Tensor, c: tf.Tensor) -> None:
            value = tf.raw_ops.ResourceGather(
                resource=self.slots[place].handle, indices=a, dtype=self.dtype
            )
            self._set(place, tf.constant(GRADIENT), value / self._as_own(c))

        self._tell("take_gradient", on, slot, total)

    # ------------------------------------------------------------ how

    def _row(self, place: str, number: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.ResourceGather(
            resource=self._rows[place].handle, indices=number, dtype=self.dtype
        )

    def _set(self, place: str, number: tf.Tensor, value: tf.Tensor) -> None:
        tf.raw_ops.ResourceScatterUpdate(
            resource=self._rows[place].handle, indices=number, updates=value
        )

    def _as_own(self, number: tf.Tensor) -> tf.Tensor:
        return tf.cast(number, self.dtype)

    def _tell(self, name: str, on: Callable[..., None], *arguments: Any) -> None:
        def run(*given: tf.Tensor) -> None:
            for place in self.weights:
                with tf.device(place):
                    on(place, *given)

        self._call(name, run, arguments)

    def _ask(
        self,
        name: str,
        on: Callable[..., tf.Tensor],
        together: Callable[[list[tf.Tensor]], tf.Tensor],
        *arguments: Any,
    ) -> float:
        def run(*given: tf.Tensor) -> tf.Tensor:
            parts = []
            for place in self.weights:
                with tf.device(place):
                    parts.append(on(place, *given))
            return together(parts)

        return float(self._call(name, run, arguments))

    def _call(self, name: str, run: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        given = [_as_tensor(argument) for argument in arguments]
        if name not in self._functions:
            specs = [
                tf.TensorSpec([None, *one.shape[1:]] if one.shape.rank else [], one.dtype)
                for one in given
            ]
            self._functions[name] = traced(run).get_concrete_function(*specs)
        self.commands += 1
        return self._functions[name](*given)

    # ------------------------------------------------------------ to save

    @property
    def variables(self) -> Mapping[str, tf.Variable]:
        """For each server the matrix of the vectors."""
        return self._rows


def _as_tensor(argument: float | np.ndarray) -> tf.Tensor:
    if isinstance(argument, np.ndarray):
        return tf.constant(argument)
    return tf.constant(argument, tf.int32 if isinstance(argument, int) else tf.float64)
