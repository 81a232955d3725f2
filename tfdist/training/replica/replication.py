"""Which tensors of a step are the same on every replica, found in the graph that is being written.

A tensor is *replicated* if it comes only from what is so: constants, variables that are in sync,
sums over the replicas. It is *random* if a stateful random operation has a part in it, which draws
other numbers on each replica. It *varies* if the replica's data have, or if nobody can tell.

(The words are those of SPMD compilers: JAX's `shard_map` tells invariant from varying values.)
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import tensorflow as tf

from tfdist.compat import tf_graphs, tf_strategies
from tfdist.structures import Gradient
from tfdist.training.replica.graph_walk import found_out

__all__ = ["READS", "Kind", "Replication"]


class Kind(enum.IntEnum):
    """What a tensor is to the replicas; of several inputs the largest counts."""

    REPLICATED = 0
    RANDOM = 1
    VARYING = 2


READS = ("ReadVariableOp", "ResourceGather")
"""Operations whose first input is a variable's handle."""

_RANDOM = ("Multinomial", "ParameterizedTruncatedNormal", "TruncatedNormal")


class Replication:
    """Tells of the tensors of one replica's step whether they are the same on all replicas.

    Args:
        in_sync: the variables of this process whose replicas are equal before the step, by the
            identities of their handles.
    """

    def __init__(self, in_sync: dict[int, tf.Variable] | None = None) -> None:
        self._in_sync = dict(in_sync or {})
        self._marked: dict[int, Kind] = {}
        self._found: dict[int, Kind] = {}
        self._kept: list[object] = []  # what an identity stands for must live
        self._proven: list[object] = []

    @property
    def variables(self) -> list[tf.Variable]:
        """Those that are in sync."""
        return list(self._in_sync.values())

    @property
    def marks(self) -> int:
        """How many tensors have been marked."""
        return len(self._marked)

    def mark(self, tensors: Iterable[Gradient], kind: Kind = Kind.REPLICATED) -> None:
        """Notes what tensors are, whatever they come from."""
        for tensor in tensors:
            self._marked[id(tensor)] = kind
            self._kept.append(tensor)
            if isinstance(tensor, tf.IndexedSlices):
                self.mark([tensor.values, tensor.indices], kind)

    def has_synced(self, variable: tf.Variable) -> None:
        """Notes that all replicas hold the same in a variable from now on."""
        for handle in tf_strategies.handles_of(variable):
            self._in_sync[id(handle)] = variable
            self._kept.append(handle)
        self._found = {}

    def has_diverged(self, variable: tf.Variable) -> None:
        """Notes that the replicas may hold different values in a variable from now on."""
        for handle in tf_strategies.handles_of(variable):
            self._in_sync.pop(id(handle), None)
        self._found = {}

    def of(self, value: object) -> Kind:
        """Returns what a tensor, or a sparse gradient, is to the replicas."""
        kind = self.peek(value)
        if kind is Kind.REPLICATED and id(value) not in self._marked:
            self._proven.append(value)
        return kind

    def holds(self) -> bool:
        """Whether all that was found to be replicated still is, by what is known at the end.

        A variable that is written late may turn out to be another one on each replica.
        """
        self._found = {}
        return all(self.peek(value) is Kind.REPLICATED for value in self._proven)

    def peek(self, value: object) -> Kind:
        """Returns the same for a purpose that no replica can diverge by."""
        if id(value) in self._marked:
            return self._marked[id(value)]
        if isinstance(value, tf.IndexedSlices):
            return max(self.peek(value.values), self.peek(value.indices))
        if not tf.is_tensor(value):
            return Kind.REPLICATED  # a number of Python's
        if not isinstance(value, tf.Tensor) or not tf_graphs.is_symbolic(value):
            return Kind.VARYING
        return found_out(
            value,
            self._found,
            self._kept,
            self._look_at,
            lambda _, own, sources: max([own, *sources]),
        )

    def _look_at(self, tensor: tf.Tensor) -> tuple[Kind, list[tf.Tensor]]:
        """Returns what a tensor's own operation makes of it, and what else it comes from."""
        if id(tensor) in self._marked:
            return self._marked[id(tensor)], []
        if not tf_graphs.is_symbolic(tensor):
            return Kind.REPLICATED, []  # a constant of the program's
        operation = tensor.op
        if operation.type == "Placeholder":
            outer = tf_graphs.captured(tensor)
            return (Kind.VARYING, []) if outer is None else self._look_at_captured(outer)
        if operation.type in READS or not operation.op_def.is_stateful:
            return Kind.REPLICATED, list(operation.inputs)
        if "Random" in operation.type or operation.type in _RANDOM:
            return Kind.RANDOM, list(operation.inputs)
        return Kind.VARYING, []

    def _look_at_captured(self, outer: tf.Tensor) -> tuple[Kind, list[tf.Tensor]]:
        if outer.dtype == tf.resource and not tf_graphs.is_symbolic(outer):
            return (Kind.REPLICATED if id(outer) in self._in_sync else Kind.VARYING), []
        return Kind.REPLICATED, [outer]
