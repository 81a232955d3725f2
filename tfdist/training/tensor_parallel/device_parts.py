"""Values of which each device has a part, and what is computed on another device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat import keras_layers, tf_graphs
from tfdist.structures import Gradient

__all__ = ["Parts", "computed_on", "joined", "on_its_device", "parts_of"]

_ATTRIBUTE = "_tfdist_parts"


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a tensor was joined from.

    Attributes:
        axis: along which, counted from the last one, which is -1.
        values: the parts, in order, each on a device of its own.
    """

    axis: int
    values: tuple[tf.Tensor, ...]

    @property
    def sizes(self) -> list[int | None]:
        """How long each part is along the axis."""
        return [value.shape[self.axis] for value in self.values]


def parts_of(value: object) -> Parts | None:
    """Returns what a tensor was joined from, or None."""
    found = getattr(value, _ATTRIBUTE, None)
    return found if isinstance(found, Parts) else None


def joined(parts: Parts) -> tf.Tensor:
    """Joins parts on the present device, for whoever does not take them as they are.

    Where all do, TensorFlow leaves it out of the program.
    """
    whole = tf.concat(parts.values, parts.axis)
    setattr(whole, _ATTRIBUTE, parts)
    return whole


def on_its_device(variable: keras.Variable) -> tuple[tf.Tensor, str]:
    """Returns the value of a variable in a layer's call, and where it is.

    In a pipeline's step it is a tensor, of the first replica or on another one's device.
    """
    with keras_layers.not_cast():
        value = variable.value
    device = value.device or ""
    with tf.device(device):
        return tf.convert_to_tensor(value), device


def computed_on(
    device: str, function: Callable[..., tf.Tensor], operands: Sequence[tf.Tensor]
) -> tf.Tensor:
    """Computes something on a device, and its gradients, when they are asked for, there, too.

    TensorFlow computes gradients where they are asked for, wherever their operations ran.

    Args:
        device: where.
        function: of the operands; it reads nothing else that has gradients.
        operands: tensors of any devices, each of which is sent once.
    """
    with tf.device(device):
        if not tf_graphs.is_watched(operands):
            return function(*(tf.identity(one) for one in operands))
        here = [tf.stop_gradient(one) for one in operands]  # tapes around see one operation
        value, tape = _recorded(function, here)

    def backward(flow: Gradient) -> list[Gradient | None]:
        with tf.device(device):
            flow = tf.identity(flow)
            again = tf_graphs.is_watched([flow, *operands])
            if not again:
                return _gradients(tape, value, here, flow)
            # Gradients of gradients: who asks is to see all that these are computed from.
            sources = [tf.identity(one) for one in operands]
            once_more, recorded = _recorded(function, sources)
            return _gradients(recorded, once_more, sources, flow)

    with tf.device(device):
        (found,) = tf_graphs.recorded("Part", operands, lambda: [value], backward)
    return found


def _recorded(
    function: Callable[..., tf.Tensor], sources: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.GradientTape]:
    tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
    with tape:
        tape.watch([one for one in sources if one.dtype.is_floating or one.dtype.is_complex])
        return function(*sources), tape


def _gradients(
    tape: tf.GradientTape, value: tf.Tensor, sources: Sequence[tf.Tensor], flow: tf.Tensor
) -> list[Any]:
    return list(tape.gradient(value, list(sources), output_gradients=flow))
