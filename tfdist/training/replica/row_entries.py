"""What operations make of rows entry by entry, and what unknown ones do (`row_rules`)."""

from __future__ import annotations

import tensorflow as tf

from tfdist.compat import tf_graphs
from tfdist.training.replica.row_flow import MIXED, UNKNOWN, Flow, Node, Rule, one_of

__all__ = [
    "added",
    "each",
    "homogeneous",
    "kept",
    "may_count",
    "normalized_along_last",
    "otherwise",
    "over",
    "power",
    "selected",
    "tiled",
    "times",
]


def may_count(value: tf.Tensor, static: int | None, inverse: bool = False) -> bool:
    """Whether a constant may be the number of rows, or of entries; or one over the former.

    Args:
        value: any tensor.
        static: the number of rows, where the graph knows it.
        inverse: whether it is to be one over the number of rows.
    """
    found = None if static is None else tf_graphs.constant_value(value)
    if found is None or static is None or found.size != 1:
        return False
    number = float(found.item())
    if inverse:
        return static > 1 and abs(number * static - 1) < 1e-6
    return static > 1 and number > 0 and number % static == 0


def otherwise(node: Node) -> Flow:
    """Rows stay where they are if the dimension is still there; what is put together is no more."""
    inputs = node.inputs
    counted = [flow.counts for flow in node.flows if flow.counts is not None]
    if counted:  # made of a shape
        rank = node.output.shape.rank
        return Flow(axis=counted[0]) if rank is not None and rank > counted[0] else UNKNOWN
    rowed = [(i, flow) for i, flow in enumerate(node.flows) if flow.has_rows]
    plain = all(flow.degree == 0 for flow in node.flows if flow.varies)
    if not rowed:
        return Flow(exact=False) if plain else UNKNOWN
    degree = 0 if plain else None
    for i, flow in rowed:
        axis = flow.axis
        assert axis is not None
        if _fits(inputs[i], axis, node.output, axis):
            return Flow(axis=axis, degree=degree)
    if node.output.shape.rank and node.output.shape[0] == node.static:
        return Flow(axis=0, degree=degree)
    return UNKNOWN


def _fits(one: tf.Tensor, axis: int, other: tf.Tensor, place: int) -> bool:
    """Whether a dimension of a tensor can be one of another."""
    if one.shape.rank is None or other.shape.rank is None or place >= other.shape.rank:
        return False
    if axis >= one.shape.rank:  # of a list of tensors, which is one to TensorFlow
        return False
    return bool(one.shape[axis] == other.shape[place])


def kept(node: Node) -> Flow:
    """Of one tensor: entry by entry, and linear."""
    return node.flows[0]


def _axis_among(node: Node) -> int | None:
    """Where rows lie in what is computed entry by entry of inputs that are broadcast; -1: nowhere.

    None where they lie along several dimensions.
    """
    ranks = [node.output.shape.rank, *(one.shape.rank for one in node.inputs)]
    if None in ranks:
        return None
    ends = _ends(node)
    if not ends:
        return -1
    return int(node.output.shape.rank - ends.pop()) if len(ends) == 1 else None


def _pairs(node: Node) -> Flow:
    """What has a row beside each other one, as far as that is seen."""
    return MIXED if len(_ends(node)) > 1 else UNKNOWN


def _ends(node: Node) -> set[int]:
    """How far from the last dimension the rows of inputs lie."""
    given = zip(node.inputs, node.flows, strict=True)
    return {
        one.shape.rank - flow.axis
        for one, flow in given
        if one.shape.rank is not None and flow.axis is not None
    }


def each(node: Node) -> Flow:
    """Entry by entry, and anything but linear."""
    axis = _axis_among(node)
    if axis is None:
        return _pairs(node)
    plain = all(flow.degree == 0 for flow in node.flows if flow.varies)
    if axis >= 0:
        return Flow(axis=axis, degree=0 if plain else None)
    return Flow(exact=False) if plain else UNKNOWN


def homogeneous(node: Node) -> Flow:
    """Entry by entry, and twice as large where its inputs are: the larger of two, a size."""
    axis = _axis_among(node)
    degrees = {flow.degree for flow in node.flows if flow.varies}
    if axis is None or len(degrees) != 1:
        return _pairs(node)
    degree = degrees.pop()
    if degree and not all(flow.varies for flow in node.flows):
        degree = None if axis < 0 else degree
    return Flow(axis=axis, degree=degree) if axis >= 0 else Flow(degree=degree, exact=False)


def added(node: Node) -> Flow:
    """`Add`, `AddV2`, `AddN`, `Sub`."""
    axis = _axis_among(node)
    if axis is None:
        return _pairs(node)
    degrees = {flow.degree if flow.varies else 0 for flow in node.flows}
    degree = degrees.pop() if len(degrees) == 1 else None
    if axis >= 0:
        return Flow(axis=axis, degree=degree)
    return Flow(degree=degree, exact=degree is not None and all(flow.exact for flow in node.flows))


def times(node: Node) -> Flow:
    """`Mul`."""
    return _product(node, 1)


def over(node: Node) -> Flow:
    """`RealDiv`, `DivNoNan`."""
    return _product(node, -1)


def _product(node: Node, sign: int) -> Flow:
    """Of two, or their quotient where the sign is -1."""
    axis = _axis_among(node)
    first, second = node.flows
    if axis is None or first.degree is None or second.degree is None:
        return UNKNOWN
    inputs = node.inputs
    degree = first.degree + sign * second.degree
    divided = first.divided or second.divided
    for i, flow in enumerate(node.flows):
        if not flow.varies and not divided:
            inverse = sign > 0
            if (i == 1 or inverse) and may_count(inputs[i], node.static, inverse):
                divided = True
    if axis >= 0:
        return Flow(axis=axis, degree=degree, divided=divided)
    if divided and degree == 1:
        degree, divided = 0, False
    counted = first.is_count and not second.varies
    counted = counted or (sign > 0 and second.is_count and not first.varies)
    others = [flow for flow in node.flows if flow.varies and not flow.is_count]
    exact = all(flow.exact for flow in others) and (
        len(others) < 2 and (sign > 0 or second.is_count or not second.varies)
    )
    return Flow(degree=degree, exact=exact, is_count=counted)


def power(exponent: float) -> Rule:
    """Returns the rule of what raises each entry to a power."""

    def rule(node: Node) -> Flow:
        (flow,) = node.flows
        degree = None if flow.degree is None else flow.degree * exponent
        if flow.has_rows:
            return Flow(axis=flow.axis, degree=degree)
        return Flow(degree=degree, exact=False) if degree is not None else UNKNOWN

    return rule


def selected(node: Node) -> Flow:
    """`SelectV2`: of two, one for each entry."""
    axis = _axis_among(node)
    if axis is None:
        return _pairs(node)
    if axis < 0:
        choices = list(zip(node.inputs[1:], node.flows[1:], strict=True))
        return one_of(node.flows[0], choices)
    degrees = {flow.degree for flow in node.flows[1:]}
    return Flow(axis=axis, degree=degrees.pop()) if len(degrees) == 1 else UNKNOWN


def normalized_along_last(node: Node) -> Flow:
    """`Softmax`, `LogSoftmax`."""
    flow, rank = node.flows[0], node.inputs[0].shape.rank
    if flow.axis is None:
        return each(node)
    return UNKNOWN if rank is None or flow.axis == rank - 1 else each(node)


def tiled(node: Node) -> Flow:
    """`Tile`: as often as there are rows, what has none gets some."""
    flow, times = node.flows
    if times.counts is not None:
        return UNKNOWN if flow.varies else Flow(axis=times.counts)
    return flow
