"""What products of matrices and lookups make of rows (`row_rules`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfdist.compat import tf_graphs
from tfdist.training.replica.row_flow import FIXED, MIXED, UNKNOWN, Flow, Node
from tfdist.training.replica.row_shapes import picked, summed

__all__ = ["einsum", "gathered", "multiplied", "squares_summed"]


def _contracted(
    flows: Sequence[Flow], rows: Sequence[bool | None], degree: float | None
) -> Flow | None:
    """What a product makes that sums along the rows; None if it does not.

    Args:
        flows: of both factors.
        rows: of each, whether its rows are summed along; None where it has none.
        degree: of the product's entries.
    """
    if True not in rows:
        return None
    if False in rows:
        return MIXED
    return summed(Flow(axis=0, degree=degree, divided=any(flow.divided for flow in flows)))


def multiplied(node: Node) -> Flow:
    """Matrices, or many of them: `MatMul`, `BatchMatMulV2`."""
    operation, (first, second) = node.operation, node.flows
    ranks = [one.shape.rank for one in operation.inputs]
    if None in ranks or first.degree is None or second.degree is None:
        return UNKNOWN
    names = ("transpose_a", "transpose_b") if operation.type == "MatMul" else ("adj_x", "adj_y")
    turned = [bool(operation.get_attr(name)) for name in names]
    degree = first.degree + second.degree
    if not (first.has_rows or second.has_rows):
        varying = [flow for flow in node.flows if flow.varies]
        return Flow(degree=degree, exact=len(varying) == 1 and varying[0].exact)
    # Counted from the end: -2 and -1 are the matrices' dimensions, what lies before is alike.
    ends = [
        None if flow.axis is None else flow.axis - rank
        for flow, rank in zip(node.flows, ranks, strict=True)
    ]
    inner = [-2 if turned[0] else -1, -1 if turned[1] else -2]
    sums = _contracted(
        node.flows,
        [None if end is None else end == own for end, own in zip(ends, inner, strict=True)],
        degree,
    )
    if sums is not None:
        return sums
    found = set()
    for place, end in enumerate(ends):
        if end is not None:
            found.add(end if end < -2 else (-2 if place == 0 else -1))
    if len(found) != 1 or node.output.shape.rank is None:
        return MIXED if len(found) > 1 else UNKNOWN
    return Flow(axis=node.output.shape.rank + found.pop(), degree=degree)


def einsum(node: Node) -> Flow:
    """`Einsum`."""
    operation = node.operation
    equation = operation.get_attr("equation").decode()
    if any(flow.degree is None for flow in node.flows) or "->" not in equation:
        return UNKNOWN
    given, made = equation.split("->")
    degree = sum(flow.degree or 0 for flow in node.flows if flow.varies)
    letters = set()
    for term, flow, one in zip(given.split(","), node.flows, operation.inputs, strict=True):
        if flow.axis is not None:
            if one.shape.rank is None:
                return UNKNOWN
            letters.add(_spelt(term, one.shape.rank)[flow.axis])
    if not letters:
        varying = [flow for flow in node.flows if flow.varies]
        return Flow(degree=degree, exact=len(varying) == 1 and varying[0].exact)
    if len(letters) > 1 or node.output.shape.rank is None:
        return MIXED if len(letters) > 1 else UNKNOWN
    letter = letters.pop()
    out = _spelt(made, node.output.shape.rank)
    if letter in out:
        return Flow(axis=out.index(letter), degree=degree)
    return summed(Flow(axis=0, degree=degree, divided=any(flow.divided for flow in node.flows)))


def _spelt(term: str, rank: int) -> list[str]:
    """The names of a term's dimensions; those of an ellipsis are counted from the end."""
    if "..." not in term:
        return list(term)
    before, after = term.split("...")
    more = rank - len(before) - len(after)
    return [*before, *(f"...{n - more}" for n in range(more)), *after]


def gathered(node: Node) -> Flow:
    """`GatherV2`, and `ResourceGather`, whose first input is a variable."""
    operation = node.operation
    params, indices = node.flows[0], node.flows[1]
    place = 0
    if len(operation.inputs) > 2:
        axis = tf_graphs.constant_value(operation.inputs[2])
        if axis is None:
            return UNKNOWN
        place = int(axis.item())
    batch = int(operation.get_attr("batch_dims"))
    if params.counts is not None:
        index = tf_graphs.constant_value(operation.inputs[1])
        if index is None:
            return UNKNOWN
        taken = [int(one) for one in index.reshape(-1)]
        if index.ndim == 0:
            return Flow(degree=1, is_count=True) if taken[0] == params.counts else FIXED
        return Flow(counts=taken.index(params.counts)) if params.counts in taken else FIXED
    given, into = operation.inputs[0].shape.rank, operation.inputs[1].shape.rank
    if not params.varies or not params.has_rows:
        if indices.axis is None:
            return params if params.varies else Flow(exact=False)
        return Flow(axis=place - batch + indices.axis, degree=params.degree)
    if given is None or into is None or params.axis is None:
        return UNKNOWN
    place %= given
    if params.axis < place or params.axis < batch:
        return params
    if params.axis > place:
        return dataclasses.replace(params, axis=params.axis + into - batch - 1)
    if indices.axis is not None:  # some of the rows, picked by what the rows say
        return dataclasses.replace(params, axis=place + indices.axis, some=True)
    return picked(params) if into == 0 else MIXED


def squares_summed(node: Node) -> Flow:
    """`L2Loss`."""
    (flow,) = node.flows
    if flow.degree is None:
        return UNKNOWN
    degree = 2 * flow.degree
    if not flow.has_rows:
        return Flow(degree=degree, exact=False)
    return summed(Flow(axis=flow.axis, degree=degree))
