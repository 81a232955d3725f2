"""What operations make of rows that move, sum or pick along dimensions (`row_rules`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tfdist.compat import tf_graphs
from tfdist.training.replica.row_flow import FIXED, MIXED, UNKNOWN, Flow, Node, Rule

__all__ = [
    "averaged",
    "expanded",
    "joined",
    "like",
    "listed",
    "lists_an_item",
    "looped",
    "normalized",
    "packed",
    "picked",
    "product_of_shape",
    "range_of",
    "reduced",
    "reshaped",
    "segments",
    "shape_of",
    "shape_of_each",
    "size_of",
    "sliced",
    "squeezed",
    "stacked",
    "summed",
    "transposed",
    "unpacked",
    "untold",
]


def _axes(operation: tf.Operation, rank: int | None) -> list[int] | None:
    found = tf_graphs.constant_value(operation.inputs[1])
    if found is None or rank is None:
        return None
    return [int(axis) % max(rank, 1) for axis in found.reshape(-1)]


def reduced(along_rows: Callable[[Flow], Flow], linear: bool) -> Rule:
    """Returns the rule of what makes one number of all along some dimensions.

    Args:
        along_rows: what it makes where the rows are along one of them.
        linear: whether it is a sum with factors.
    """

    def rule(node: Node) -> Flow:
        flow, operation = node.flows[0], node.operation
        if flow.axis is None:
            return flow if linear else dataclasses.replace(flow, exact=False)
        if operation.inputs[1].op.type == "BroadcastGradientArgs":
            left = node.flows[1].counts  # the gradient of what had rows, or was the same for all
            return along_rows(flow) if left is None else dataclasses.replace(flow, axis=left)
        axes = _axes(operation, operation.inputs[0].shape.rank)
        if axes is None:
            return UNKNOWN
        if flow.axis in axes:
            return along_rows(flow)
        if operation.get_attr("keep_dims"):
            return flow
        before = len([axis for axis in set(axes) if axis < flow.axis])
        return dataclasses.replace(flow, axis=flow.axis - before)

    return rule


def summed(flow: Flow) -> Flow:
    """A sum along the rows."""
    if flow.degree is None:
        return UNKNOWN
    return Flow(degree=flow.degree if flow.divided else flow.degree + 1)


def averaged(flow: Flow) -> Flow:
    """A mean along the rows."""
    return UNKNOWN if flow.degree is None else Flow(degree=flow.degree, exact=not flow.some)


def picked(flow: Flow) -> Flow:
    """One of the rows."""
    return UNKNOWN if flow.degree is None else Flow(degree=flow.degree, exact=False)


def untold(flow: Flow) -> Flow:
    """What nobody can tell."""
    del flow
    return UNKNOWN


def transposed(node: Node) -> Flow:
    """`Transpose`."""
    order = tf_graphs.constant_value(node.inputs[1])
    if node.flows[0].axis is None:
        return node.flows[0]
    if order is None:
        return UNKNOWN
    return dataclasses.replace(
        node.flows[0], axis=[int(one) for one in order].index(node.flows[0].axis)
    )


def expanded(node: Node) -> Flow:
    """`ExpandDims`."""
    axis = tf_graphs.constant_value(node.inputs[1])
    if node.flows[0].axis is None:
        return node.flows[0]
    if axis is None or node.output.shape.rank is None:
        return UNKNOWN
    place = int(axis.item()) % node.output.shape.rank
    return dataclasses.replace(
        node.flows[0], axis=node.flows[0].axis + (place <= node.flows[0].axis)
    )


def squeezed(node: Node) -> Flow:
    """`Squeeze`."""
    (flow,), operation = node.flows, node.operation
    given = operation.inputs[0].shape
    if flow.axis is None:
        return flow
    if given.rank is None:
        return UNKNOWN
    dims = [axis % given.rank for axis in operation.get_attr("squeeze_dims")]
    dims = dims or [axis for axis in range(given.rank) if given[axis] == 1]
    if flow.axis in dims:
        return UNKNOWN
    return dataclasses.replace(flow, axis=flow.axis - len([a for a in dims if a < flow.axis]))


def reshaped(node: Node) -> Flow:
    """Rows stay behind as many numbers as lay before them."""
    flow, given = node.flows[0], node.inputs[0].shape
    if flow.axis is None:
        return flow if flow.varies else FIXED
    if given.rank is None or not node.output.shape.rank:
        return UNKNOWN
    if flow.merged and node.output.shape.rank > given.rank:
        return UNKNOWN
    if node.flows[1].counts is not None:
        return dataclasses.replace(flow, axis=node.flows[1].counts)
    before = given[: flow.axis].num_elements()
    made = 1
    for place, size in enumerate(node.output.shape):
        if before is None and size is None:
            return UNKNOWN
        last = place == node.output.shape.rank - 1
        if size is None or last or made * size > (before or 1):
            return dataclasses.replace(flow, axis=place, merged=flow.merged or made != before)
        made *= size
    return UNKNOWN


def listed(node: Node) -> Flow:
    """`Where`: a line for each place that is true."""
    return Flow(axis=0, some=True) if node.flows[0].has_rows else Flow(exact=False)


def packed(node: Node) -> Flow:
    """`Pack`, of numbers of a shape, too."""
    axes = {flow.axis for flow in node.flows if flow.varies}
    degrees = {flow.degree if flow.varies else 0 for flow in node.flows}
    if any(flow.is_count or flow.counts is not None for flow in node.flows):
        counting = [i for i, flow in enumerate(node.flows) if flow.is_count]
        if axes == {None} and len(counting) == 1 and node.output.shape.rank == 1:
            return Flow(counts=counting[0])
    if len(axes) != 1:
        return UNKNOWN
    degree = degrees.pop() if len(degrees) == 1 else None
    place, axis = node.operation.get_attr("axis"), axes.pop()
    if axis is None:
        exact = degree is not None and all(flow.exact for flow in node.flows)
        return Flow(degree=degree, exact=exact)
    place %= node.output.shape.rank or 1
    return Flow(axis=axis + (place <= axis), degree=degree)


def unpacked(node: Node) -> Flow:
    """`Unpack`."""
    (flow,), operation = node.flows, node.operation
    rank = operation.inputs[0].shape.rank
    if flow.axis is None:
        return flow
    if rank is None:
        return UNKNOWN
    place = operation.get_attr("axis") % rank
    if place == flow.axis:
        return picked(flow)
    return dataclasses.replace(flow, axis=flow.axis - (place < flow.axis))


def joined(node: Node) -> Flow:
    """`ConcatV2`, of shapes, too."""
    parts = node.flows[:-1]
    axes = {flow.axis for flow in parts if flow.varies}
    degrees = {flow.degree if flow.varies else 0 for flow in parts}
    counted = [i for i, flow in enumerate(parts) if flow.counts is not None or flow.is_count]
    if counted and all(one.shape.num_elements() for one in node.inputs[:-1]):
        if len(counted) > 1 or axes != {None}:
            return UNKNOWN
        before = sum(one.shape.num_elements() for one in node.inputs[: counted[0]])
        return Flow(counts=before + (parts[counted[0]].counts or 0))
    if len(axes) != 1 or len(degrees) != 1:
        return UNKNOWN
    axis, degree = axes.pop(), degrees.pop()
    if axis is None:
        return Flow(degree=degree, exact=all(flow.exact for flow in parts))
    place = tf_graphs.constant_value(node.inputs[-1])
    if place is None or node.output.shape.rank is None:
        return UNKNOWN
    along = int(place.item()) % node.output.shape.rank == axis
    if along and not all(flow.varies for flow in parts):
        return UNKNOWN  # some of the rows are no rows of the batch
    return Flow(axis=axis, degree=degree)


def sliced(node: Node) -> Flow:
    """`StridedSlice`, of shapes, too."""
    flow, operation = node.flows[0], node.operation
    if flow.counts is not None:
        return _number_of(node, flow)
    if flow.axis is None:
        return flow if flow.varies else UNKNOWN
    begin = operation.inputs[1].shape.num_elements()
    rank = operation.inputs[0].shape.rank
    masks = {
        name: int(operation.get_attr(f"{name}_mask"))
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    if begin is None or rank is None:
        return UNKNOWN

    def has(name: str, at: int) -> bool:
        return bool(masks[name] >> at & 1)

    given = made = 0
    for at in range(begin):
        if has("ellipsis", at):
            later = [n for n in range(at + 1, begin) if not has("new_axis", n)]
            passed = rank - given - len(later)
            if given <= flow.axis < given + passed:
                return dataclasses.replace(flow, axis=made + flow.axis - given)
            given, made = given + passed, made + passed
        elif has("new_axis", at):
            made += 1
        elif given == flow.axis:
            if has("shrink_axis", at):
                return picked(flow)
            whole = all(has(name, at) or _is_whole(node, name, at) for name in ("begin", "end"))
            return dataclasses.replace(flow, axis=made, some=flow.some or not whole)
        else:
            given, made = given + 1, made + (not has("shrink_axis", at))
    return dataclasses.replace(flow, axis=made + flow.axis - given)


def _is_whole(node: Node, bound: str, at: int) -> bool:
    """Whether a slice begins, or ends, where a batch does: at 0, or at a number of rows."""
    place = 1 if bound == "begin" else 2
    found = tf_graphs.constant_value(node.inputs[place])
    if found is None:
        return node.flows[place].varies
    number = int(found[at])
    return (number == 0 and bound == "begin") or bool(
        node.static and number > 0 and number % node.static == 0
    )


def _number_of(node: Node, flow: Flow) -> Flow:
    """What is taken out of a shape."""
    operation = node.operation
    first = tf_graphs.constant_value(operation.inputs[1])
    size = operation.inputs[0].shape.num_elements()
    if first is None or first.size != 1 or size is None:
        return UNKNOWN
    begin = 0 if operation.get_attr("begin_mask") & 1 else int(first.item()) % size
    if operation.get_attr("shrink_axis_mask") & 1:
        return Flow(degree=1, is_count=True) if begin == flow.counts else FIXED
    count = node.output.shape.num_elements()
    assert flow.counts is not None
    if count is None:
        return UNKNOWN
    place = flow.counts - begin
    return Flow(counts=place) if 0 <= place < count else FIXED


def shape_of(node: Node) -> Flow:
    """`Shape`."""
    flow = node.flows[0]
    if flow.some:
        return UNKNOWN
    return FIXED if flow.axis is None else Flow(counts=flow.axis)


def shape_of_each(node: Node) -> Flow:
    """`ShapeN`, and `BroadcastGradientArgs`: along which dimensions a gradient is summed."""
    flow = node.flows[node.output.value_index]
    if node.operation.type == "ShapeN":
        return UNKNOWN if flow.some else Flow(counts=flow.axis, varies=flow.has_rows)
    return Flow(counts=flow.counts, exact=False)


def size_of(node: Node) -> Flow:
    """`Size`."""
    flow = node.flows[0]
    return Flow(degree=1, is_count=not flow.some) if flow.has_rows else FIXED


def product_of_shape(node: Node) -> Flow:
    """`Prod`."""
    if node.flows[0].counts is not None:
        return Flow(degree=1, is_count=True)
    return reduced(untold, linear=False)(node)


def like(node: Node) -> Flow:
    """`OnesLike`, `ZerosLike`."""
    return Flow(axis=node.flows[0].axis) if node.flows[0].has_rows else FIXED


def range_of(node: Node) -> Flow:
    """`Range`, of a number of rows; or places, up to a number that is the largest of several."""
    if any(flow.is_count for flow in node.flows):
        return Flow(axis=0)
    known = all(flow.degree == 0 for flow in node.flows)
    return Flow(exact=False, by_count=True) if known else UNKNOWN


def segments(node: Node) -> Flow:
    """`SegmentSum`."""
    flow = node.flows[0]
    if flow.axis == 0 and node.flows[1].has_rows:
        return summed(flow)
    return UNKNOWN if flow.varies else Flow(degree=1)


def normalized(node: Node) -> Flow:
    """A batch's normalization: its first node.output has the rows, the others are statistics."""
    return Flow(axis=node.flows[0].axis) if node.output.value_index == 0 else Flow(exact=False)


# ---------------------------------------------------------------- loops


def looped(node: Node) -> Flow:
    """A loop, which is taken to work row by row: `tf.map_fn`, `tf.scan`, recurrent layers.

    What it hands on has rows where it has had them; a list, where the lists have that it takes from
    (along the dimension that they will have once they are stacked).
    """
    own = node.flows[node.output.value_index]
    if node.output.dtype != tf.variant:
        return own if own.has_rows else UNKNOWN
    given = list(zip(node.inputs, node.flows, strict=True))
    axes = {flow.axis for one, flow in given if one.dtype == tf.variant and flow.has_rows}
    if axes == {0} and any(flow.has_rows for one, flow in given if one.dtype != tf.variant):
        return MIXED  # a turn for each row, which sees all rows
    return Flow(axis=axes.pop()) if len(axes) == 1 else UNKNOWN


def stacked(node: Node) -> Flow:
    """`TensorListStack`."""
    flow, rank = node.flows[0], node.output.shape.rank
    return flow if flow.axis is not None and rank is not None and flow.axis < rank else UNKNOWN


def lists_an_item(node: Node) -> Flow:
    """`TensorListSetItem`, `TensorListPushBack`."""
    item = node.flows[-1]
    return UNKNOWN if item.axis is None else dataclasses.replace(item, axis=item.axis + 1)
