"""What one replica knows of its part of the global batch while its step is traced."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

import keras
import tensorflow as tf

from tfdist.strategies import step_clock
from tfdist.structures import Count, Gradient, Nest, T, Variable
from tfdist.training.peers import packing
from tfdist.training.replica.lockstep import Lockstep
from tfdist.training.replica.replication import Replication
from tfdist.training.replica.terms import Terms

__all__ = [
    "Exchange",
    "ReplicaStep",
    "Rows",
    "Shares",
    "current",
    "on_numbers",
    "replica_step",
]


Applying: TypeAlias = (
    "tuple[keras.optimizers.Optimizer, list[Gradient | None], Sequence[keras.Variable] | None]"
)
"""A call of an optimizer's `apply`: whose, and what it was given."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """Which rows of the global batch a replica is given.

    Attributes:
        start: int64 scalar: the first of them.
        count: int64 scalar: how many there are; 1 where a stand-in is given.
        total: int64 scalar: rows of the global batch.
        static: `count`, where it is known before the step runs.
    """

    start: tf.Tensor
    count: tf.Tensor
    total: tf.Tensor
    static: int | None = None

    @classmethod
    def of(cls, part: Nest, start: tf.Tensor, size: tf.Tensor, total: tf.Tensor) -> Rows:
        """Returns the rows of a replica's part of the data.

        Args:
            part: its data, in any structure.
            start: where they begin in the global batch.
            size: how many it has; 0 where a stand-in is given.
            total: rows of the global batch.
        """
        there = [leaf for leaf in tf.nest.flatten(part) if isinstance(leaf, tf.Tensor)]
        known = {leaf.shape[0] for leaf in there if leaf.shape.rank}
        static = known.pop() if len(known) == 1 else None
        return cls(start, tf.maximum(size, 1), total, static)


class Exchange(Protocol):
    """How replicas exchange what they have learnt; see `training.synchronous.exchange`.

    Attributes:
        goes_alone: whether no gradient is anybody else's.
    """

    goes_alone: bool

    @property
    def own_variables(self) -> list[tf.Variable]:
        """What it remembers from step to step."""

    def gradients(
        self, step: ReplicaStep, gradients: Sequence[Gradient], variables: Sequence[Variable]
    ) -> list[Gradient]:
        """Returns what an optimizer is to apply, for gradients that shares have weighted."""

    def after_step(self, step: ReplicaStep) -> None:
        """Brings together what is left to be, at a step's end."""


@dataclasses.dataclass
class Waiting:
    """A gradient that waits to be summed.

    Attributes:
        stands: what stands for its sum.
        part: this replica's part.
        applied: whether an optimizer has applied it.
    """

    stands: tf.Tensor
    part: tf.Tensor
    applied: bool = False


class Shares(Protocol):
    """Optimizers whose replicas update a share each; see `training.slot_shards`."""

    def has(self, optimizer: keras.optimizers.Optimizer) -> bool:
        """Whether an optimizer is one of them."""

    def variables(self, optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
        """Returns the variables that one of them was built for."""

    def waits(self, step: ReplicaStep, gradient: Gradient, variable: Variable) -> bool:
        """Whether a gradient is left to be summed where one of them applies it."""

    def apply(
        self,
        step: ReplicaStep,
        optimizer: keras.optimizers.Optimizer,
        apply: Callable[..., object],
        gradients: Sequence[Gradient | None],
        variables: Sequence[Variable],
    ) -> object:
        """Has one of them apply gradients, those among them that wait summed.

        Args:
            step: of this replica.
            optimizer: one of them.
            apply: its own `apply`, which takes it first.
            gradients: the others of the whole batch.
            variables: of each.
        """


@dataclasses.dataclass
class ReplicaStep:
    """One replica's step, while it is traced.

    Attributes:
        strategy: the strategy whose replica this is.
        share: float64 scalar: this replica's examples over the global batch's; the shares of all
            replicas sum to 1.
        may_be_absent: True where a replica can be left without examples (a last batch smaller than
            the number of replicas). It then runs on a stand-in with share 0 and nothing of it is
            kept.
        exchange: how gradients reach the other replicas; None sums them as they are.
        rows: which rows of the global batch are its own; None where nobody knows.
        replication: which tensors are the same on all replicas.
        lockstep: where the replica shares its process' copy of the variables with others.
        means: the losses that are known to be means over the rows, by identity.
        local_state: the variables that the step wrote on each replica for itself (the moving
            statistics of BatchNormalization are the typical ones), by identity.
        applies: True inside of an optimizer's `apply`.
        updates_a_metric: True inside of a metric's `update_state`.
        shares: optimizers whose replicas update a share each; None where there are none.
        waiting: gradients that wait to be summed until an optimizer applies them, by identity.
        counted: inside of that of a metric of one's own: what it has added to which variables.
        postponed: where the forward and backward passes are being compiled by XLA: the calls of
            optimizers' `apply` that must wait until they are out of it.
        with_rows: what is known to have a row for each example, first, by identity.
        row_by_row: inside of what TensorFlow makes one of for all rows (a Jacobian).
        has_looped: whether gradients were taken in a loop of TensorFlow's: they are the replica's.
        draws_alike: whether random numbers are for what no rows have a part in (weights).
        terms: what takes numbers apart into sums and means, and by which marks.
    """

    strategy: tf.distribute.Strategy
    share: tf.Tensor
    may_be_absent: bool
    exchange: Exchange | None = None
    rows: Rows | None = None
    replication: Replication = dataclasses.field(default_factory=Replication)
    lockstep: Lockstep | None = None
    means: dict[int, tf.Tensor] = dataclasses.field(default_factory=dict)
    local_state: dict[int, tf.Variable] = dataclasses.field(default_factory=dict)
    applies: bool = False
    updates_a_metric: bool = False
    shares: Shares | None = None
    waiting: dict[int, Waiting] = dataclasses.field(default_factory=dict)
    counted: list[tuple[keras.Variable, tf.Tensor | float]] | None = None
    postponed: list[Applying] | None = None
    terms: tuple[object, Terms] | None = None
    with_rows: dict[int, tf.Tensor] = dataclasses.field(default_factory=dict)
    row_by_row: bool = False
    has_looped: bool = False
    draws_alike: bool = False
    graph: tf.Graph = dataclasses.field(default_factory=tf.compat.v1.get_default_graph)

    @property
    def present(self) -> tf.Tensor:
        """Bool scalar: whether this replica has any examples in this step."""
        return self.share > 0.0

    @property
    def shares_a_process(self) -> bool:
        """Whether other replicas are in this process."""
        return self.lockstep is not None or len(self.strategy.extended.worker_devices) > 1

    @property
    def replica(self) -> Count:
        """The replica's number in the job: an integer, or an int32 scalar."""
        return tf.distribute.get_replica_context().replica_id_in_sync_group

    @property
    def replicas(self) -> int:
        """How many replicas the job has."""
        return int(tf.distribute.get_replica_context().num_replicas_in_sync)

    def if_present(self, value: Gradient) -> Gradient:
        """Returns the value, or zeros where this replica has no examples."""
        if not self.may_be_absent:
            return value
        return on_numbers(lambda v: tf.where(self.present, v, tf.zeros_like(v)), value)

    def sum_over_replicas(self, values: T, options: object = None) -> T:
        """Sums a structure of tensors over all replicas; every replica gets the result.

        Args:
            values: tensors and sparse gradients of any dtypes.
            options: a `tf.distribute.experimental.CommunicationOptions`; None is TensorFlow's
                default.
        """
        if self.lockstep is not None:
            flat = tf.nest.flatten(values, expand_composites=False)
            total = tf.nest.pack_sequence_as(values, self.lockstep.sum(flat))
        else:
            began = self.exchanged(values)
            total = packing.sum_by_dtype(values, options)
            step_clock.summed(began, total)
        self.replication.mark(tf.nest.flatten(total, expand_composites=False))
        return total

    def wait_with(self, part: tf.Tensor) -> tf.Tensor:
        """Returns what stands for the sum of a gradient until an optimizer applies it."""
        stands = tf.identity(part)
        self.waiting[id(stands)] = Waiting(stands, part)
        return stands

    @property
    def showed_parts(self) -> bool:
        """Whether what stands for a sum may have been taken for one, but by an optimizer."""
        return any(not one.applied or one.stands.consumers() for one in self.waiting.values())

    def exchanged(self, values: Nest) -> tf.Tensor | None:
        """See `step_clock.exchanged`; inside of XLA there is no clock."""
        return None if self.postponed is not None else step_clock.exchanged(values)

    def mean_over_replicas(self, values: Sequence[Gradient]) -> list[tf.Tensor]:
        """Sums tensors weighted by the shares of their replicas."""
        return list(self.sum_over_replicas([self.weighted(value) for value in values]))

    def first_of_replicas(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Gives every replica the first one's tensors."""
        firsts = packing.broadcast_from_first(values, self.sum_over_replicas)
        self.replication.mark(firsts)
        return firsts

    def weighted(self, value: Gradient) -> Gradient:
        """Returns a tensor times this replica's share."""
        # A stand-in example may give NaN or infinity: 0 times those must be 0.
        times = tf.math.multiply_no_nan if self.may_be_absent else tf.multiply
        return on_numbers(lambda v: times(v, tf.cast(self.share, v.dtype)), value)

    def has_variable_of(self, shape: Iterable[int]) -> bool:
        """Whether a variable that is trained has this shape."""
        return any(
            variable.trainable and tuple(variable.shape) == tuple(shape)
            for variable in self.replication.variables
        )

    def a_mean(self, value: tf.Tensor) -> tf.Tensor:
        """Notes that a loss is one that the share is to weigh, and returns it."""
        self.means[id(value)] = value
        return value

    def in_rows(self, value: tf.Tensor) -> tf.Tensor:
        """Notes that a tensor has a row for each example, first, and returns it."""
        self.with_rows[id(value)] = value
        return value

    def undo_share(self, value: tf.Tensor) -> tf.Tensor:
        """Divides by the share what is a part of the whole batch's loss already."""
        return tf.math.divide_no_nan(value, tf.cast(self.share, value.dtype))


def on_numbers(change: Callable[[tf.Tensor], tf.Tensor], gradient: Gradient) -> Gradient:
    """Changes the numbers of a gradient, or of any tensor; a sparse one stays sparse."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(change(gradient.values), gradient.indices, gradient.dense_shape)
    return change(gradient)


class _Current(threading.local):
    step: ReplicaStep | None = None


_current = _Current()


def current() -> ReplicaStep | None:
    """Returns the step that this thread traces; None outside of one."""
    return _current.step


@contextlib.contextmanager
def replica_step(step: ReplicaStep) -> Iterator[ReplicaStep]:
    """Makes `step` the current one of this thread, which is one replica's."""
    outer, _current.step = _current.step, step
    try:
        yield step
    finally:
        _current.step = outer
