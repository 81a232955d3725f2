"""Where the rows of a batch go in the graph of a step: what has one for each, what sums them up.

Each tensor is asked for three things: along which dimension the rows lie; if they lie along none,
by which power it would grow if every row were there twice (its degree: a mean has 0, a sum over
rows 1, a quotient of two sums 0); and whether it is exact, that is, put together from what each row
gives by itself, so that the parts of several replicas make up the whole. The squared mean is not,
nor is the largest of the rows.

The rules of single operations are in `row_rules`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import tensorflow as tf

from tfdist.compat import tf_graphs
from tfdist.training.replica.graph_walk import found_out, made_of

__all__ = ["FIXED", "MIXED", "UNKNOWN", "Flow", "Node", "RowFlow", "Rule", "one_of"]


@dataclasses.dataclass(frozen=True)
class Flow:
    """What a tensor has of the rows.

    Attributes:
        axis: the dimension along which they lie; None for none.
        degree: the power by which it, or each of its entries, grows with the number of rows; None
            if nobody can tell.
        exact: whether the replicas' parts make up the whole; of what has rows, whether each of
            them is computed of its own row alone.
        varies: whether it depends on the rows at all.
        is_count: whether it is the number of rows, perhaps times a constant.
        by_count: whether of the rows it depends on nothing but how many numbers there are.
        counts: of a shape: which of its numbers is that of the rows.
        divided: whether its entries are divided by a constant that may be the number of rows.
        some: whether it has some of the rows only, how many the replica's data tell.
        mixed: whether it is known to be computed of several rows together, pair by pair, say.
        merged: whether other dimensions, which came first, lie along its rows' dimension, too.
    """

    axis: int | None = None
    degree: float | None = 0
    exact: bool = True
    varies: bool = True
    is_count: bool = False
    by_count: bool = False
    counts: int | None = None
    divided: bool = False
    some: bool = False
    merged: bool = False
    mixed: bool = False

    @property
    def has_rows(self) -> bool:
        """Whether rows lie along a dimension."""
        return self.axis is not None


FIXED = Flow(varies=False)
"""What is the same whatever the rows are."""

UNKNOWN = Flow(degree=None, exact=False)

MIXED = Flow(degree=None, exact=False, mixed=True)
"""What nobody can tell more of than that rows meet others in it."""


@dataclasses.dataclass(frozen=True)
class Node:
    """A tensor that an operation computes of inputs, at least one of which varies.

    Attributes:
        output: the tensor.
        flows: of the operation's inputs.
        static: the number of rows, where the graph knows it.
    """

    output: tf.Tensor
    flows: Sequence[Flow]
    static: int | None

    @property
    def operation(self) -> tf.Operation:
        """What computes it."""
        return self.output.op

    @property
    def inputs(self) -> Sequence[tf.Tensor]:
        """The operation's."""
        return self.output.op.inputs


Rule: TypeAlias = Callable[[Node], Flow]
"""What an operation makes of its inputs."""


def one_of(which: Flow, choices: Sequence[tuple[tf.Tensor, Flow]]) -> Flow:
    """What is one of several tensors; a zero is none of them, as it is a sum and a mean.

    Args:
        which: what chooses has of the rows.
        choices: the tensors, and what they have.
    """
    flows = [flow for value, flow in choices if flow.varies or not _is_zero(value)]
    if len({(flow.axis, flow.degree) for flow in flows}) > 1:
        return UNKNOWN
    if not flows or not (which.varies or any(flow.varies for flow in flows)):
        return Flow(exact=False) if which.varies else FIXED
    exact = not which.varies and all(flow.exact for flow in flows)
    return dataclasses.replace(flows[0], exact=exact, varies=True)


def _is_zero(value: tf.Tensor) -> bool:
    found = tf_graphs.constant_value(value)
    return found is not None and not found.any()


class RowFlow:
    """Follows rows through a graph.

    Args:
        rules: of operations, by type.
        otherwise: of all others.
        static: the number of rows, where the graph knows it.
        is_fixed: whether a tensor is known to be the same on all replicas.
        is_mean: whether a tensor is known to be a mean over the rows.
        has_rows: whether a tensor is known to have them first.
    """

    def __init__(
        self,
        rules: dict[str, Rule],
        otherwise: Rule,
        static: int | None,
        is_fixed: Callable[[tf.Tensor], bool],
        is_mean: Callable[[tf.Tensor], bool],
        has_rows: Callable[[tf.Tensor], bool],
    ) -> None:
        self._static = static
        self._rules = rules
        self._otherwise = otherwise
        self._is_fixed = is_fixed
        self._is_mean = is_mean
        self._has_rows = has_rows
        self._found: dict[int, Flow] = {}
        self._kept: list[object] = []

    def of(self, tensor: tf.Tensor) -> Flow:
        """Returns what a tensor has of the rows."""
        return found_out(tensor, self._found, self._kept, self._look_at, self._told)

    def origin(self, tensor: tf.Tensor, is_so: Callable[[Flow], bool]) -> tf.Tensor:
        """Returns the first tensor of which something is so that is so of what is made of it.

        Args:
            tensor: of whose flow it is.
            is_so: tells it of a flow.
        """
        while True:
            _, inputs = self._look_at(tensor)
            before = next((one for one in inputs if is_so(self.of(one))), None)
            if before is None:
                return tensor
            tensor = before

    def _told(self, tensor: tf.Tensor, known: Flow | None, flows: Sequence[Flow]) -> Flow:
        return self._ruled(tensor, flows) if known is None else known

    def _look_at(self, tensor: tf.Tensor) -> tuple[Flow | None, list[tf.Tensor]]:
        """Returns what is known of a tensor at once, or what it comes from."""
        if not tf_graphs.is_symbolic(tensor) or self._is_fixed(tensor):
            return FIXED, []
        if self._is_mean(tensor):
            return Flow(), []
        if self._has_rows(tensor):
            return Flow(axis=0), []
        kind = tensor.op.type
        sources = made_of(tensor)
        if kind.startswith(("Iterator", "Optional")) or (kind == "Placeholder" and not sources):
            return self._by_shape(tensor), []
        return None, sources

    def _ruled(self, tensor: tf.Tensor, flows: Sequence[Flow]) -> Flow:
        operation = tensor.op
        if operation.type == "Placeholder":  # of what is captured
            return flows[0]
        branches = tf_graphs.branches(operation)
        if branches is not None:
            outputs = [graph.outputs[tensor.value_index] for graph in branches]
            return one_of(flows[0], list(zip(outputs, flows[1:], strict=True)))
        if not any(flow.varies for flow in flows):
            return FIXED
        rule = self._rules.get(operation.type, self._otherwise)
        found = rule(Node(tensor, flows, self._static))
        varying = [flow for flow in flows if flow.varies]
        rowed = [flow for flow in varying if flow.has_rows]
        if any(flow.mixed for flow in varying):
            found = dataclasses.replace(found, exact=False, mixed=True)
        exact = found.exact and all(flow.exact for flow in rowed)
        if not found.has_rows:
            counts = found.is_count or found.counts is not None
            counts = counts or found.by_count or all(flow.by_count for flow in varying)
            return dataclasses.replace(found, exact=exact, by_count=counts)
        some = found.some or any(flow.some for flow in rowed)
        merged = found.merged or any(flow.merged for flow in rowed)
        if any(not (flow.has_rows or flow.by_count) for flow in varying):
            exact = False  # of a number that is made of several rows
        picks = operation.type in ("GatherV2", "GatherNd")
        if not picks and len({flow.some for flow in rowed}) > 1:
            exact = False  # of a row and another one
        return dataclasses.replace(found, exact=exact, some=some, merged=merged)

    def _by_shape(self, tensor: tf.Tensor) -> Flow:
        """What the shape alone tells: rows come first."""
        rank = tensor.shape.rank
        if rank == 0:
            return FIXED
        if rank is not None and tensor.shape[0] == self._static:
            return Flow(axis=0)
        return UNKNOWN
