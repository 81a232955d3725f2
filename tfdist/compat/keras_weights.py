"""Keras variables on other devices, or as plain tensors while a step is traced."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

__all__ = ["Held", "held", "move_variable"]

_lock = threading.RLock()


class Held:
    """Keras variables that are plain tensors while a step is traced; see `held`."""

    def __init__(self, values: Sequence[tuple[keras.Variable, tf.Tensor]]) -> None:
        self._true = {id(variable): variable._value for variable, _ in values}
        self._variables = [variable for variable, _ in values]
        for variable, tensor in values:
            variable._value = tensor

    def has(self, variable: keras.Variable) -> bool:
        """Whether the variable is a tensor now."""
        return id(variable) in self._true and isinstance(variable._value, tf.Tensor)

    def current(self, variable: keras.Variable) -> tf.Tensor:
        """The tensor that stands for a variable, after all assignments so far."""
        return variable._value

    def hold(self, variable: keras.Variable, tensor: tf.Tensor) -> None:
        """Has another tensor stand for one of the variables."""
        variable._value = tensor

    def release(self, variable: keras.Variable) -> None:
        """Lets a variable be itself again."""
        if id(variable) in self._true:
            variable._value = self._true[id(variable)]

    def release_all(self) -> None:
        """Lets all variables be themselves again."""
        for variable in self._variables:
            self.release(variable)

    @property
    def to_watch(self) -> list[tf.Tensor]:
        """The tensors of the trainable variables."""
        return [v._value for v in self._variables if v.trainable and self.has(v)]


@contextlib.contextmanager
def held(
    values: Sequence[tuple[keras.Variable, tf.Tensor]],
    write: Callable[[keras.Variable, tf.Tensor], None] | None = None,
) -> Iterator[Held]:
    """Has Keras variables be plain tensors while a step is traced.

    Reading one gives its tensor; assigning to it replaces the tensor; a `tf.GradientTape` that is
    opened meanwhile watches those of the trainable ones, and gives gradients for them.

    Args:
        values: variables and the tensors that stand for them.
        write: assigns to any other variable; by default it is assigned as ever.
    """
    variable_class, tape_class = keras.Variable, tf.GradientTape
    before = (variable_class._direct_assign, variable_class.handle, tape_class.__enter__)
    here = Held(values)

    def direct_assign(self: keras.Variable, value: tf.Tensor) -> None:
        if here.has(self):
            here.hold(self, tf.ensure_shape(tf.cast(value, self._value.dtype), self._value.shape))
        else:
            (write or before[0])(self, value)

    def handle(self: keras.Variable) -> tf.Tensor:
        return self._value if here.has(self) else before[1].fget(self)

    def enter(self: tf.GradientTape) -> tf.GradientTape:
        tape = before[2](self)
        for tensor in here.to_watch:
            tape.watch(tensor)
        return tape

    with _lock:
        variable_class._direct_assign = direct_assign
        variable_class.handle = property(handle)
        tape_class.__enter__ = enter
        try:
            yield here
        finally:
            here.release_all()
            variable_class._direct_assign, variable_class.handle, tape_class.__enter__ = before


def move_variable(variable: keras.Variable, device: str) -> None:
    """Has a Keras variable live on a device; its value goes with it."""
    old = variable._value
    with tf.device(device):
        value = tf.identity(old)
        variable._value = tf.Variable(
            value,
            dtype=old.dtype,
            trainable=old.trainable,
            name=variable.name,
            aggregation=old.aggregation,
            synchronization=old.synchronization,
        )
    variable._value._unique_id = old._unique_id  # by which optimizers know it
    # Of which optimizers ask whether it is one of their strategy's, before they make slots.
    variable._value._distribute_strategy = old._distribute_strategy
