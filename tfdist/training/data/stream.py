"""A stream of steps: what the epoch loop takes its data from, whoever makes them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import keras_build, tf_datasets, tf_graphs
from tfdist.errors import CheckpointError
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Count, Leaf, Nest
from tfdist.training.data import iterator_state
from tfdist.training.data.iterator_cleanup import let_go
from tfdist.training.data.position import Event, Position

__all__ = [
    "AllGatherNumbers",
    "Step",
    "Stream",
    "count_rows",
    "leaves",
    "map_leaves",
    "rows_in",
    "slice_rows",
    "without_optionals",
]


class AllGatherNumbers(Protocol):
    """Shows this worker's numbers to all; returns `[workers, n]`, the same on every worker."""

    def __call__(self, numbers: Sequence[float]) -> np.ndarray:
        """See above."""


class Step(NamedTuple):
    """One step's data of this process.

    Attributes:
        parts: for each local replica its rows, structured as the user's batch.
        shares: float64 `[local]`: each local replica's rows over the global batch's.
        starts: int64 `[local]`: where each part begins in the global batch.
        sizes: int64 `[local]`: rows of each part; 0 where a stand-in row is given, -1 in a stream
            for one replica, where nobody asks.
        total: int64: rows of the global batch; -1 as above.
        fingerprint: int64: a hash of the batch's first row, 0 in a job of one process.
    """

    parts: tuple[Any, ...]
    shares: tf.Tensor
    starts: tf.Tensor
    sizes: tf.Tensor
    total: tf.Tensor
    fingerprint: tf.Tensor


class Stream:
    """Counts the steps of epochs over a stream, as Keras does.

    Args:
        layout: the replicas.
        steps: the user's `steps_per_epoch`, or None for the whole stream.

    Attributes:
        counted: whether an epoch's steps are known to be there, so that they can run in a graph
            loop without asking whether everybody still has data.
        ended: whether the last `take` met the stream's end.
        num_batches: steps of the stream, or None where nobody knows (yet).
        steps_asked: steps of an epoch, where the user has said so.
        on_devices: for each replica of this process, arrays on its GPU: the parts of a `Step` are
            then numbers of their rows; none where steps bring their rows.
        rows: of all replicas, on which steps have been taken so far, in all epochs.
    """

    has_position = True
    """Whether a run can go on in the middle of an epoch; else it begins the epoch's data anew."""

    is_global = False
    """Whether every worker has the same stream, of which it takes its rows."""

    def __init__(self, layout: ReplicaLayout, steps: int | None) -> None:
        limit = keras.config.max_steps_per_epoch()
        self.steps_asked = min(steps, limit) if steps and limit else steps or limit
        self.layout = layout
        self.num_batches: int | None = None
        self.counted = False
        self.ended = False
        self.on_devices: tuple[Any, ...] = ()
        self._iterator: tf.data.Iterator | None = None
        self._pulled: list[Any] = []
        self._seen = 0
        self._begun = 0
        self._events: list[Event] = []
        self._pass = 0
        self._drawn: tuple[np.ndarray, ...] = ()
        self.rows = 0

    # What each kind of stream has of its own.

    @property
    def batch_size(self) -> int | None:
        """Rows of a full global batch, where it is known beforehand."""
        raise NotImplementedError

    @property
    def may_leave_replicas_out(self) -> bool:
        """Whether some step may leave a replica without rows."""
        raise NotImplementedError

    def sample_batch(self) -> Nest:
        """Specs or tensors of one batch, to build the model with."""
        raise NotImplementedError

    @property
    def step_spec(self) -> Step:
        """Specs of every step."""
        raise NotImplementedError

    @property
    def source(self) -> tf.data.Dataset | None:
        """The dataset that the stream is made of; None where each worker's is its own."""
        return None

    @functools.cached_property
    def draws_anew(self) -> bool:
        """Whether another run of the program would draw another order, as it has no seed."""
        any_seed = tf_graphs.has_seed_of_this_run()
        return self.source is not None and tf_datasets.draws_anew(self.source, any_seed)

    @property
    def is_cached(self) -> bool:
        """Whether the first pass is kept, for the others to be its copies."""
        return self.source is not None and tf_datasets.has_cache(self.source)

    @property
    def makes_every_batch_again(self) -> bool:
        """Whether only the batches of a pass tell how the next one goes."""
        source = self.source
        depends = source is not None and tf_datasets.depends_on_the_pass_before(source)
        return self.is_cached or depends

    @functools.cached_property
    def _drawn_from(self) -> list[tf.Variable]:
        """The variables of random numbers, and others, that a pass over the data changes."""
        return [] if self.source is None else tf_datasets.variables_written(self.source)

    @property
    def passes_are_alike(self) -> bool:
        """Whether an earlier pass leaves nothing that the next one would take up."""
        return False

    def make_iterator(self, skip: int = 0) -> tf.data.Iterator:
        """Begins the stream anew, after its first batches."""
        raise NotImplementedError

    def take(self, count: int, all_gather: AllGatherNumbers) -> list[Step]:
        """Takes the next steps that the workers will run together, up to `count`; [] at the end."""
        raise NotImplementedError

    def varies_with(self) -> set[str]:
        """What may make two workers read differently, see `tf_datasets.varies_with`."""
        return set()

    # What all have.

    @property
    def num_steps(self) -> int | None:
        """Steps of an epoch, or None where nobody knows before its end."""
        return self.steps_asked or self.num_batches

    @property
    def iterator(self) -> Iterator[Step]:
        """The running iterator over `Step`s."""
        assert self._iterator is not None
        return self._iterator

    def begin_epoch(self, all_gather: AllGatherNumbers) -> None:
        """Starts an epoch: from the beginning, or where the last one stopped with `steps` given."""
        del all_gather  # some streams make sure that the workers read the same
        self._begun = 0
        if self._iterator is None or self.steps_asked is None:
            self._start_over()

    def end_epoch(self) -> None:
        """Ends an epoch."""
        if self.num_batches is not None and self._seen >= self.num_batches:
            # As Keras does: each new iterator draws a shuffle's next order.
            self._start_over()

    def _start_over(self, skip: int = 0) -> None:
        self._drop_iterator()
        self._pass = len(self._events)
        self._events.append(skip)
        self._drawn = self._values()
        self._iterator = self.make_iterator(skip)
        self._pulled = []
        self._seen = 0

    def position(self, begun: int) -> Position:
        """Returns where this worker's stream stands.

        Args:
            begun: steps that were taken of the epoch.
        """
        is_open = self._iterator is not None
        state = None
        if is_open and self.draws_anew and not self._pulled:
            state = iterator_state.save(self.iterator)
        goes_on = is_open and state is None
        return Position(
            tuple(self._events),
            begun,
            self._seen,
            self.num_batches,
            is_open,
            iterator=state,
            batch_size=self.batch_size,
            steps_asked=self.steps_asked,
            drawn=self._drawn if goes_on else self._values(),
        )

    def go_to(self, position: Position) -> None:
        """Does what has been done to the stream of another run; both have begun alike.

        Args:
            position: where that one stood.

        Raises:
            CheckpointError: it stood in the middle of an epoch of other batches.
        """
        if position.begun:
            self._check_same("rows of a global batch", position.batch_size, self.batch_size)
            self._check_same("steps_per_epoch", position.steps_asked, self.steps_asked)
            self._check_same("batches of a pass", position.length, self.num_batches)
        if self.num_batches is None:
            self.num_batches = position.length
        passes = [i for i, event in enumerate(position.events) if not isinstance(event, str)]
        for i, event in list(enumerate(position.events))[len(self._events) :]:
            if isinstance(event, str):
                self._hook_again(event)
            elif i == passes[-1] and position.iterator is not None:
                self._start_over()
                iterator_state.restore(self.iterator, position.iterator)
                self._events[-1] = event
            elif i == passes[-1] and position.is_open:
                self._prepare_last_pass(position)
                self._draw_from(position)
                self._start_over(event)
            elif position.iterator is not None or self.passes_are_alike:
                self._events.append(event)  # an iterator's state has what was drawn before
            else:
                self.pass_again(event)
        if position.iterator is not None or not position.is_open:
            self._draw_from(position)
        self._seen, self._begun = position.seen, position.begun

    def _values(self) -> tuple[np.ndarray, ...]:
        return tuple(variable.numpy() for variable in self._drawn_from)

    def _draw_from(self, position: Position) -> None:
        """Sets the variables that the data draw from."""
        shapes = [value.shape for value in position.drawn]
        if shapes == [tuple(variable.shape) for variable in self._drawn_from]:
            for variable, value in zip(self._drawn_from, position.drawn, strict=True):
                variable.assign(value)
        elif position.begun:
            raise CheckpointError(
                f"the data of the checkpoint draw from {len(shapes)} variables (of seeds, of "
                f"generators), these from {len(self._drawn_from)}, in the middle of an epoch: "
                "train on the data of the run that wrote it, or resume from the end of an epoch "
                "(put the later checkpoints away), or begin anew with resume=False"
            )

    def _check_same(self, what: str, before: int | None, now: int | None) -> None:
        if before is not None and now is not None and before != now:
            raise CheckpointError(
                f"the checkpoint is of the middle of an epoch with {before} {what}, and there are "
                f"{now} now: give {before}, or resume from the end of an epoch (put the later "
                "checkpoints away), or begin anew with resume=False"
            )

    def pass_again(self, taken: int) -> None:
        """Draws what an earlier pass has drawn, of which so many batches were taken."""
        self._pass = len(self._events)
        self._events.append(taken)
        passed = self.make_iterator()
        for _ in range(taken if self.makes_every_batch_again else min(taken, 1)):
            next(passed, None)
        if taken and self.is_cached:
            next(passed, None)  # a cache is whole once it has seen the end
        let_go([passed])

    def _prepare_last_pass(self, position: Position) -> None:
        """Sees that the pass that goes on begins as it did."""

    def _hook_again(self, name: str) -> None:
        """Calls a hook of the data's adapter that was called in a run before this one."""
        raise NotImplementedError

    def rewind(self) -> None:
        """Makes the next epoch begin at the stream's first batch."""
        self._drop_iterator()

    def _drop_iterator(self) -> None:
        box, self._iterator = [self._iterator], None
        if box[0] is not None:
            let_go(box)

    def __del__(self) -> None:
        if getattr(self, "_iterator", None) is not None:
            self._drop_iterator()

    def left(self, step: int) -> int | None:
        """Steps that remain in this epoch, or None where nobody knows.

        Args:
            step: how many were taken of it since it began or, in a resumed run, went on.
        """
        asked = None if self.steps_asked is None else self.steps_asked - self._begun - step
        there = None if self.num_batches is None else self.num_batches - self._seen
        known = [count for count in (asked, there) if count is not None]
        return max(0, min(known)) if known else None

    def took(self, steps: int, batches: int | None = None) -> None:
        """Notes that `steps` steps were taken from the stream, of so many batches (one each)."""
        self._seen += steps
        taken = self._events[self._pass]
        assert not isinstance(taken, str)
        self._events[self._pass] = taken + (steps if batches is None else batches)

    def ran_out(self) -> None:
        """Notes that the stream ended here: its length is known from now on."""
        if self.num_batches is None:
            self.num_batches = self._seen
        self._drop_iterator()


def count_rows(batch: Nest) -> int:
    """Rows of an eager batch, whatever its structure."""
    first = leaves(batch)[0]
    if isinstance(first, tf.RaggedTensor):
        return int(first.nrows())
    return int(first.dense_shape[0] if isinstance(first, tf.SparseTensor) else first.shape[0])


def rows_in(batch: Nest) -> tf.Tensor:
    """Rows of a batch, whatever its structure, as an int64 scalar; in a graph, too."""
    first = leaves(batch)[0]
    if isinstance(first, tf.RaggedTensor):
        return first.nrows(tf.int64)
    if isinstance(first, tf.SparseTensor):
        return first.dense_shape[0]
    return tf.shape(first, tf.int64)[0]


def slice_rows(leaf: Leaf, low: Count, high: Count) -> Leaf:
    """The rows `[low, high)` of a tensor, dense, ragged or sparse."""
    if isinstance(leaf, tf.SparseTensor):
        begin = tf.concat([[tf.cast(low, tf.int64)], tf.zeros_like(leaf.dense_shape[1:])], 0)
        size = tf.concat([[tf.cast(high - low, tf.int64)], leaf.dense_shape[1:]], 0)
        return tf.sparse.reorder(tf.sparse.slice(leaf, begin, size))
    return leaf[low:high]


def map_leaves(function: Callable[[Leaf], Nest], batch: Nest) -> Nest:
    """Maps over the tensors of a batch; absent entries (None, empty Optionals) stay as they are."""
    return tf.nest.map_structure(
        lambda leaf: leaf if keras_build.is_absent(leaf) else function(leaf), batch
    )


def leaves(batch: Nest) -> list[Leaf]:
    """Returns the tensors of a batch, or their specs, without its absent entries."""
    return [leaf for leaf in tf.nest.flatten(batch) if not keras_build.is_absent(leaf)]


def without_optionals(data: Nest) -> Nest:
    """Keras' adapters carry None through tf.data as an empty Optional."""
    return tf.nest.map_structure(lambda leaf: None if keras_build.is_absent(leaf) else leaf, data)
