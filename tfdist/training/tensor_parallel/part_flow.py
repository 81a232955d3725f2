"""What a step of a class's own computes of the parts of weights and of their gradients.

A part is one weight's numbers along some of an axis. What treats each number by itself is right, as
are sums over all parts of a weight (a global norm, a penalty of squares). A norm of a part alone,
or a mean over an axis that is cut, is another number than the whole weight's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import tensorflow as tf

from tfdist.compat import tf_graphs, tf_random
from tfdist.training.replica.graph_walk import found_out, made_of

__all__ = ["PartFlow", "PartState"]

Kind: TypeAlias = Literal["free", "drawn", "part", "bag", "sum", "bad"]
Piece: TypeAlias = tuple[int, int]
"""A weight, by some number, and which part of it."""


@dataclasses.dataclass(frozen=True)
class PartState:
    """What a tensor has of parts.

    Attributes:
        kind: "free" of them; "drawn" at random; a "part", each number of its own; a "bag" of such
            numbers, however they lie; a "sum" over parts, which others may be added to; "bad".
        pieces: which parts are in it.
        axis: along which a part is cut.
        place: of which part a "part" is, by that axis: what else is cut so goes with it.
    """

    kind: Kind = "free"
    pieces: frozenset[Piece] = frozenset()
    axis: int = 0
    place: tuple[int, int] = (0, 0)


FREE, DRAWN, BAD = PartState(), PartState("drawn"), PartState("bad")

_ADDING = frozenset(
    """Add AddN AddV2 All Any Cast ConcatV2 EnsureShape ExpandDims Identity LogicalAnd LogicalOr Mul
    Neg Pack Reshape Snapshot Squeeze StopGradient StridedSlice Sub Sum Unpack""".split()  # noqa: SIM905
)
"""By which sums over parts stay sums."""

_BY_NUMBER = frozenset(
    """Abs Add AddN AddV2 Atan Case Cast Ceil CheckNumerics ClipByValue Cos Div DivNoNan EnsureShape
    Equal Exp Expm1 Floor FloorMod Greater GreaterEqual Identity If IsFinite IsInf IsNan Less
    LessEqual Log Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum Mul MulNoNan Neg NotEqual
    OnesLike Pow PreventGradient RealDiv Reciprocal Relu Rint Round Rsqrt Select SelectV2 Sigmoid
    Sign Sin Snapshot Softplus Softsign Sqrt Square SquaredDifference StatelessCase StatelessIf
    StopGradient Sub Tanh Xdivy Xlogy ZerosLike""".split()  # noqa: SIM905
)
"""What computes each number of its output of one number of each input."""

_MOVING = frozenset(
    """ConcatV2 ExpandDims Pack Reshape Slice Split SplitV Squeeze StridedSlice Transpose
    Unpack""".split()  # noqa: SIM905
)
_SHAPES = frozenset(("Rank", "Shape", "ShapeN", "Size"))
_REDUCING = frozenset(("All", "Any", "Max", "Mean", "Min", "Prod", "Sum"))
_SUMS = frozenset(("All", "Any", "Sum"))


class PartFlow:
    """Follows parts through the graph of a step.

    Args:
        known: parts, by the identities of tensors: gradients as a tape gives them.
        reads: tells of which part an operation reads the value for the step itself; None of none.
        parts: how many parts each weight has, by its number.
    """

    def __init__(
        self,
        known: Mapping[int, PartState],
        reads: Callable[[tf.Operation], PartState | None],
        parts: Mapping[int, int],
    ) -> None:
        self._known = known
        self._reads = reads
        self._parts = parts
        self._found: dict[int, PartState] = {}
        self._kept: list[object] = []

    def of(self, tensor: tf.Tensor) -> PartState:
        """What a tensor has of parts; a sum over all parts of a weight is free of them."""
        return found_out(tensor, self._found, self._kept, self._look_at, self._told)

    def origin(self, tensor: tf.Tensor) -> tf.Operation:
        """The operation that makes a tensor bad."""
        while True:
            _, inputs = self._look_at(tensor)
            before = next((one for one in inputs if self.of(one).kind == "bad"), None)
            if before is None:
                return tensor.op
            tensor = before

    def _look_at(self, tensor: tf.Tensor) -> tuple[PartState | None, list[tf.Tensor]]:
        if not tf_graphs.is_symbolic(tensor):
            return FREE, []
        if id(tensor) in self._known:
            return self._known[id(tensor)], []
        operation = tensor.op
        if operation.type == "ReadVariableOp":
            return self._reads(operation) or FREE, []
        sources = made_of(tensor)
        body = tf_graphs.loop_body(operation)
        if body is not None:
            sources.append(body.outputs[tensor.value_index])
        return (None, sources) if sources else (FREE, [])

    def _told(
        self, tensor: tf.Tensor, known: PartState | None, inputs: Sequence[PartState]
    ) -> PartState:
        if known is not None:
            return known
        operation = tensor.op
        if operation.type == "Placeholder":
            return inputs[0]
        kinds = {one.kind for one in inputs}
        if "bad" in kinds:
            return BAD
        if tf_graphs.loop_body(operation) is not None:
            return BAD if _held(inputs[:-1]) else inputs[-1]
        if tf_graphs.branches(operation) is not None:
            if _held(inputs[:1]):
                return BAD  # as a part alone would have it
            inputs = inputs[1:]
        if kinds <= {"free", "drawn"}:  # a single number is the same for all parts
            draws = "drawn" in kinds or tf_random.is_draw(operation.type)
            return DRAWN if draws and tensor.shape.rank else FREE
        if operation.type in _SHAPES:
            return FREE
        found = _ruled(operation, inputs)
        beside = operation.type in ("Pack", "ConcatV2")  # whose mean is by the number of parts
        return found if beside else self._whole(found)

    def _whole(self, state: PartState) -> PartState:
        """A sum that has all parts of its weights is a number as any other."""
        if state.kind != "sum":
            return state
        weights = {weight for weight, _ in state.pieces}
        whole = all(
            (weight, i) in state.pieces for weight in weights for i in range(self._parts[weight])
        )
        return FREE if whole else state


def _ruled(operation: tf.Operation, inputs: Sequence[PartState]) -> PartState:
    kind = operation.type
    held = _held(inputs)
    pieces = frozenset().union(*(one.pieces for one in held))
    kinds = {one.kind for one in held}
    if kinds == {"sum"}:
        is_numerator = kind in ("RealDiv", "DivNoNan") and inputs[1].kind == "free"
        once = kind != "Mul" or len(held) == 1
        if kind in ("Add", "AddV2", "Sub") and len(held) == 1 and _adds_a_constant(operation):
            return BAD  # once for each part
        return PartState("sum", pieces) if (kind in _ADDING and once) or is_numerator else BAD
    if "sum" in kinds:
        return PartState("bag", pieces) if kind in ("ConcatV2", "Pack") else BAD
    if kind == "L2Loss":
        return PartState("sum", pieces)
    if kind in _REDUCING:
        return _reduced(operation, inputs[0], pieces)
    if kind.startswith("UnsortedSegment") or kind in ("ResourceGather", "GatherV2"):
        return held[0] if inputs[0] is held[0] and len(held) == 1 else BAD
    if kind not in _BY_NUMBER | _MOVING:
        return BAD
    drawn = any(one.kind == "drawn" for one in inputs)
    alike = {(one.axis, one.place) for one in held if one.kind == "part"}
    if drawn or (len(alike) > 1 and kind in _BY_NUMBER):
        return BAD
    if kinds == {"part"} and kind not in _MOVING:
        return dataclasses.replace(held[0], pieces=pieces)
    return PartState("bag", pieces)


def _held(inputs: Sequence[PartState]) -> list[PartState]:
    return [one for one in inputs if one.kind in ("part", "bag", "sum")]


def _reduced(operation: tf.Operation, state: PartState, pieces: frozenset[Piece]) -> PartState:
    rank = operation.inputs[0].shape.rank
    found = tf_graphs.constant_value(operation.inputs[1])
    if found is None or rank is None:
        return BAD
    axes = {int(axis) % rank for axis in found.reshape(-1)} if rank else set()
    if state.kind == "part" and state.axis not in axes:
        kept = operation.get_attr("keep_dims")
        axis = state.axis - (0 if kept else sum(one < state.axis for one in axes))
        return dataclasses.replace(state, axis=axis)
    whole = state.kind == "part" or len(axes) == rank
    return PartState("sum", pieces) if operation.type in _SUMS and whole else BAD


def _adds_a_constant(operation: tf.Operation) -> bool:
    values = [tf_graphs.constant_value(one) for one in operation.inputs]
    return any(value is not None and value.any() for value in values)
