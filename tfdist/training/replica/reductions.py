"""Whether a number of a step is a mean over the replica's rows or a sum over them.

Means of the replicas make the whole's by their shares; sums add up as they are. Keras' losses say
which they are. Of what a step computes itself the graph tells: the last operation of a sum is a sum
over a tensor with a row for each example (`tf.reduce_sum(losses)`), and so is what TensorFlow makes
of a target that has rows still, whose entries' gradients it adds up.

Where the number of rows is a part of the graph (a dataset of whole batches only), a division by a
constant may be one by the rows: a sum that is divided by a multiple of them counts as a mean then.
"""

from __future__ import annotations

import tensorflow as tf

from tfdist.compat import tf_graphs
from tfdist.training.replica.replication import Kind
from tfdist.training.replica.step import ReplicaStep

__all__ = ["may_count_rows", "parts_of", "weighted_part"]

_SAME = ("CheckNumerics", "Cast", "ExpandDims", "Identity", "Reshape", "Squeeze", "StopGradient")
_SCALED = ("DivNoNan", "Mul", "RealDiv")
_ADDED = ("AddN", "AddV2", "Sub")
_EACH = (
    *_ADDED,
    *("Abs", "Exp", "Log", "Maximum", "Minimum", "Neg", "Pow", "Relu", "Select", "SelectV2"),
    *("Sigmoid", "Softplus", "Sqrt", "Square", "SquaredDifference", "Tanh"),
)
_REDUCING = ("All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum")


def parts_of(step: ReplicaStep, value: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor, bool]]:
    """Takes a target apart into the sums and the means that it is made of.

    Args:
        step: the current step.
        value: a tensor of any shape.

    Returns:
        Tensors; for each what it is to be multiplied by to be this replica's part of the whole
        (`value` is their sum with the same factors, the shares left out); and whether the share is
        in that.
    """
    parts: list[tuple[tf.Tensor, tf.Tensor, bool]] = []
    for term, factor in _terms(step, value):
        by_share = not _adds_up(step, term)
        weight = tf.cast(step.share, term.dtype) if by_share else tf.ones((), term.dtype)
        parts.append((term, weight if factor is None else weight * factor, by_share))
    return parts


def weighted_part(step: ReplicaStep, value: tf.Tensor) -> tf.Tensor:
    """Returns this replica's part of a number: the sum over the replicas is one machine's."""
    if not value.dtype.is_floating:
        value = tf.cast(value, tf.float32)
    return tf.add_n([step.if_present(term * weight) for term, weight, _ in parts_of(step, value)])


def _terms(step: ReplicaStep, value: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor | None]]:
    """The terms of a scalar, and the factors that they have there."""
    terms: list[tuple[tf.Tensor, tf.Tensor | None]] = []
    waiting: list[tuple[tf.Tensor, tf.Tensor | None]] = [(value, None)]
    while waiting:
        one, factor = waiting.pop()
        operation = _operation(step, one)
        if one.shape.rank != 0 or operation is None:
            terms.append((one, factor))
        elif operation.type in ("AddN", "AddV2"):
            waiting += [(term, factor) for term in operation.inputs]
        elif operation.type == "Sum" and operation.inputs[0].op.type == "Pack":
            waiting += [(term, factor) for term in operation.inputs[0].op.inputs]
        elif operation.type == "Sub":
            first, second = operation.inputs
            negative = -tf.ones((), one.dtype) if factor is None else -factor
            waiting += [(first, factor), (second, negative)]
        else:
            terms.append((one, factor))
    return terms if any(_adds_up(step, term) for term, _ in terms) else [(value, None)]


def _operation(step: ReplicaStep, tensor: tf.Tensor) -> tf.Operation | None:
    """The operation that tells more of a tensor; None where all is known of it, or nothing."""
    if id(tensor) in step.means or not tf_graphs.is_symbolic(tensor):
        return None
    if step.replication.peek(tensor) is Kind.REPLICATED:
        return None
    return tensor.op


def _adds_up(step: ReplicaStep, tensor: tf.Tensor) -> bool:
    """Whether a tensor is a sum over the replica's rows, or has an entry for each of them."""
    operation = _operation(step, tensor)
    if operation is None:
        return False
    sources = list(operation.inputs)
    if operation.type in _REDUCING and sources[0].shape.rank != 0 and _reduces_rows(operation):
        return bool(operation.type == "Sum" and _adds_up(step, sources[0]))
    if operation.type in _SAME or (operation.type == "Sum" and sources[0].shape.rank == 0):
        has_rows = tensor.shape.rank == 0 or _has_rows(step, tensor)
        return has_rows and _adds_up(step, sources[0])
    if operation.type in _SCALED:
        return _is_scaled(step, operation.type, sources)
    if operation.type == "Neg" or (operation.type in _EACH and tensor.shape.rank != 0):
        varying = [s for s in sources if step.replication.peek(s) is not Kind.REPLICATED]
        with_rows = [s for s in varying if s.shape.rank != 0 or tensor.shape.rank == 0]
        return bool(with_rows) and all(_adds_up(step, source) for source in with_rows)
    return tensor.shape.rank != 0 and _has_rows(step, tensor)


def _is_scaled(step: ReplicaStep, kind: str, sources: list[tf.Tensor]) -> bool:
    """Whether what adds up is only multiplied, or divided, by what all replicas have alike."""
    assert step.rows is not None
    with_rows = 0
    for place, source in enumerate(sources):
        if step.replication.peek(source) is Kind.REPLICATED:
            if kind != "Mul" and may_count_rows(step, source):
                return False
        elif source.shape.rank == 0 and sources[1 - place].shape.rank != 0:
            return False
        elif _adds_up(step, source) and not (
            kind != "Mul" and place == 1 and source.shape.rank == 0
        ):
            with_rows += 1
        else:
            return False
    rank = max(source.shape.rank or 0 for source in sources)
    return with_rows > 0 if rank else with_rows == 1


def may_count_rows(step: ReplicaStep, number: tf.Tensor) -> bool:
    """Whether a constant may be the number of the replica's rows, or of entries."""
    assert step.rows is not None
    value = None if step.rows.static is None else tf_graphs.constant_value(number)
    if value is None or step.rows.static is None or value.size != 1:
        return False
    count = float(value.item())
    return count > 0 and count % step.rows.static == 0


def _reduces_rows(operation: tf.Operation) -> bool:
    axes = tf.get_static_value(operation.inputs[1])
    rank = operation.inputs[0].shape.rank
    if axes is None or rank is None:
        return True
    return any(int(axis) % max(rank, 1) == 0 for axis in axes.reshape(-1))


def _has_rows(step: ReplicaStep, tensor: tf.Tensor) -> bool:
    """Whether the first dimension can be the replica's rows."""
    assert step.rows is not None
    if not tensor.shape.rank:
        return False
    return bool(tensor.shape[0] == step.rows.static)
