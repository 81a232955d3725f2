"""What a layer costs: operations, bytes that it holds, bytes that it hands on; all estimated.

See `layer_graph`, which cuts by it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from tfdist.training.pipelined.layer_graph import Piece

__all__ = ["SECONDS_PER_BYTE", "bytes_of", "memory", "operations"]

SECONDS_PER_BYTE = 1e-9
"""What it costs to send a byte beside measured times: a connection of 1 GB/s."""

_UNKNOWN = 64
"""A dimension that nobody knows (the length of a sequence) counts as so much."""


def operations(piece: Piece) -> float:
    """Floating-point operations of one example, forward and backward (twice the forward).

    A layer multiplies each of its kernel's weights with what it is applied to, once for every place
    of its output (every step of a sequence, every pixel); the rest touches each element a few
    times.
    """
    layer = piece.operation
    elements = sum(_size(tensor) for tensor in piece.outputs)
    forward = 3.0 * elements
    if isinstance(layer, keras.layers.Embedding):
        return 3 * forward
    if isinstance(layer, keras.Model | keras.layers.Wrapper):
        inner = layer.layers if isinstance(layer, keras.Model) else [layer.layer]
        return 3 * forward + sum(_of_layer(one, piece) for one in inner)
    return 3 * forward + _of_layer(layer, piece)


def _of_layer(layer: keras.Operation, piece: Piece) -> float:
    """Three times the forward multiplications and additions of a layer's weights."""
    if isinstance(layer, keras.Model):
        return sum(_of_layer(one, piece) for one in layer.layers)
    places = _places(layer, piece)
    total = 0.0
    for variable in getattr(layer, "trainable_variables", ()):
        if len(variable.shape) >= 2:
            total += 2.0 * math.prod(variable.shape) * places
    return 3 * total


def _places(layer: keras.Operation, piece: Piece) -> float:
    """How often the kernel is applied to one example."""
    try:
        shape = layer.output.shape
    except (AttributeError, ValueError):
        shape = piece.outputs[0].shape
    inner = [size or _UNKNOWN for size in shape[1:]]
    if isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional):
        steps = piece.inputs[0].shape[1] or _UNKNOWN
        return float(steps)
    if getattr(layer, "data_format", None) == "channels_first":
        return float(math.prod(inner[1:]))
    return float(math.prod(inner[:-1])) if inner else 1.0


def memory(piece: Piece) -> float:
    """Bytes of a layer's variables, their gradients and two slots of an optimizer."""
    trainable = {id(v) for v in getattr(piece.operation, "trainable_variables", ())}
    total = 0.0
    for variable in piece.variables:
        total += math.prod(variable.shape) * 4 * (4 if id(variable) in trainable else 1)
    return total


def bytes_of(tensor: keras.KerasTensor) -> int:
    """Bytes of one example of a symbolic tensor."""
    kind = str(tensor.dtype)
    digits = "".join(c for c in kind if c.isdigit())
    return _size(tensor) * (int(digits) // 8 if digits else 1)


def _size(tensor: keras.KerasTensor) -> int:
    return math.prod([size or _UNKNOWN for size in tensor.shape[1:]])
