"""What operations make of rows that mix the entries along a dimension, or leave some out."""

from __future__ import annotations

import dataclasses

from tfdist.compat import tf_graphs
from tfdist.training.replica.row_flow import MIXED, UNKNOWN, Flow, Node, Rule

__all__ = ["along", "along_last", "cut", "padded", "reordered", "transformed"]


def _along(node: Node, place: int) -> bool | None:
    """Whether the dimensions that an input names are the rows'; None where nobody can tell."""
    rank = node.inputs[0].shape.rank
    axes = tf_graphs.constant_value(node.inputs[place])
    if axes is None or rank is None:
        return None
    return node.flows[0].axis in [int(axis) % max(rank, 1) for axis in axes.reshape(-1)]


def along(node: Node) -> Flow:
    """What runs along a dimension, as a cumulative sum does."""
    flow = node.flows[0]
    return flow if flow.axis is None or _along(node, 1) is False else MIXED


def along_last(node: Node) -> Flow:
    """What looks for the largest along the last dimension."""
    flow, rank = node.flows[0], node.inputs[0].shape.rank
    if flow.axis is None:
        return dataclasses.replace(flow, exact=False)
    return MIXED if rank is None or flow.axis == rank - 1 else flow


def reordered(place: int) -> Rule:
    """Returns the rule of what puts entries along dimensions elsewhere: `ReverseV2`, `Roll`.

    Args:
        place: which input names the dimensions.
    """

    def rule(node: Node) -> Flow:
        flow = node.flows[0]
        if flow.axis is None or _along(node, place) is False:
            return flow
        return dataclasses.replace(flow, some=True)

    return rule


def transformed(dimensions: int) -> Rule:
    """Returns the rule of Fourier transforms along the last dimensions."""

    def rule(node: Node) -> Flow:
        flow, rank = node.flows[0], node.inputs[0].shape.rank
        if flow.axis is None:
            return flow
        return MIXED if rank is None or flow.axis >= rank - dimensions else flow

    return rule


def padded(node: Node) -> Flow:
    """`Pad`, `PadV2`, `MirrorPad`: what is added before or behind the rows is none of them."""
    flow, widths = node.flows[0], tf_graphs.constant_value(node.inputs[1])
    if flow.axis is None:
        return flow
    if widths is None:
        return UNKNOWN if node.flows[1].varies else flow
    return UNKNOWN if widths[flow.axis].any() else flow


def cut(node: Node) -> Flow:
    """`Slice`: some of the rows, if it does not begin at the first and has as many as there are."""
    flow = node.flows[0]
    if flow.axis is None:
        return flow
    begin, size = (tf_graphs.constant_value(one) for one in node.inputs[1:])
    if begin is not None and begin[flow.axis]:
        return dataclasses.replace(flow, some=True)
    if size is None:
        whole = node.flows[2].counts == flow.axis
    else:
        whole = size[flow.axis] in (-1, node.static)
    return flow if whole else dataclasses.replace(flow, some=True)
