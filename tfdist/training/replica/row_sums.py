"""Whether a number of a step is a sum over rows, where only rows have a length that is not known.

A part of a batch is weighted by its share, which makes means over rows right, and sums over them
wrong. Where the functions of parts are traced for any number of rows, the graph tells sums apart:
their last operation adds up a tensor whose first dimension is not known.
"""

from __future__ import annotations

import tensorflow as tf

from tfdist.compat import tf_graphs

__all__ = ["is_row_sum"]

_SAME = ("Cast", "CheckNumerics", "Identity", "Neg", "Reshape", "Squeeze", "StopGradient")
_ADDED = ("AddN", "AddV2", "Maximum", "Minimum", "Pack", "Sub")
_SCALED = ("DivNoNan", "Mul", "RealDiv")


def is_row_sum(value: tf.Tensor) -> bool:
    """Whether a number adds up something of each row, and is not divided by how many there are.

    Args:
        value: of a graph, without dimensions.
    """
    waiting, seen = [value], set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen or not tf_graphs.is_symbolic(tensor):
            continue
        seen.add(id(tensor))
        operation = tensor.op
        if operation.type in _SAME:
            waiting.append(operation.inputs[0])
        elif operation.type in _ADDED:
            waiting += operation.inputs
        elif operation.type in _SCALED:
            first, second = operation.inputs
            constants = [tf.get_static_value(one) is not None for one in (first, second)]
            if constants[1]:
                waiting.append(first)
            elif operation.type == "Mul":
                waiting += [second] if constants[0] else [first, second]
        elif operation.type == "Sum":
            added, axes = operation.inputs
            if _is_open(added) and _has_first(axes):
                return True
            waiting.append(added)
    return False


def _is_open(tensor: tf.Tensor) -> bool:
    """Whether the first dimension may be rows."""
    return tensor.shape.rank is None or (tensor.shape.rank > 0 and tensor.shape[0] is None)


def _has_first(axes: tf.Tensor) -> bool:
    known = tf.get_static_value(axes)
    return known is None or any(int(axis) == 0 for axis in known.reshape(-1))
