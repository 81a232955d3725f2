"""How a step is taken on replicas that stay in step: one device, mirrored, multi-worker mirrored.

Chunks of steps run inside one TensorFlow graph loop. Only gradients cross the replicas at every
step; metrics stay on the replica that counted them until someone reads them (`read`), and are then
summed over all replicas in one collective.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import ChainMap
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, cast

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import tf_collectives
from tfdist.strategies import fit_clock, own_gpus, step_clock
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Logs, Traced
from tfdist.training.data import resident
from tfdist.training.data.stream import Step, Stream, count_rows
from tfdist.training.loop.chunking import ChunkLength
from tfdist.training.loop.family import Chunk
from tfdist.training.loop.prediction import Prediction
from tfdist.training.mode import Mode
from tfdist.training.peers import packing
from tfdist.training.peers.all_gather import AllGather
from tfdist.training.peers.buckets import LANES
from tfdist.training.peers.drift import DriftCheck
from tfdist.training.plug_options import TrainingOptions
from tfdist.training.replica import ReplicaStep, one_machine_semantics, replica_states
from tfdist.training.replica.local_state import LocalState, write
from tfdist.training.replica.step_logs import StepLogs
from tfdist.training.slot_shards import whole_slots
from tfdist.training.slot_shards.sharded_slots import ShardedSlots
from tfdist.training.synchronous.exchange import LocalSteps, make_exchange
from tfdist.training.synchronous.metric_reduction import MetricReduction
from tfdist.training.synchronous.replica_programs import (
    Programs,
    ReplicaPrograms,
    TraceAgain,
)
from tfdist.training.synchronous.step_loop import spec_like, taken
from tfdist.training.tracing import traced

__all__ = ["Synchronous"]

Ran: TypeAlias = "tuple[dict[str, tf.Tensor], tf.Tensor | np.int64, tf.Tensor | int]"


class Synchronous:
    """Takes training, test and prediction steps of one model on one strategy.

    Args:
        model: a built and compiled Keras model.
        strategy: the strategy in whose scope it was made.
        layout: the strategy's replicas.
        options: how the replicas exchange gradients.
        make_programs: makes what writes the steps, given the model, the strategy, the layout, what
            sorts a step's logs and what steps write on each replica for itself.
        rows: the replicas that share the rows of a batch; None for those of the layout.
        shards: the optimizers, where they share out their slots.

    Attributes:
        programs: what writes the steps.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        options: TrainingOptions,
        make_programs: Callable[..., Programs] = ReplicaPrograms,
        rows: ReplicaLayout | None = None,
        shards: ShardedSlots | None = None,
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.layout = layout
        self._rows = rows or layout
        tf_collectives.separate_collectives(strategy)
        tf_collectives.widen_integers(strategy)
        tf_collectives.open_lanes(strategy, LANES)
        self._options = options
        self._local = LocalState(model, strategy)
        self._functions: dict[tuple[object, ...], Callable[..., Any]] = {}
        logs = StepLogs(model)
        self._all_gather = AllGather.of(strategy, layout)
        self._shards = shards
        apart: Mapping[int, tf.Variable] = self._local.written
        if shards is not None:
            apart = ChainMap(self._local.written, shards.by_value)
        self.drift = DriftCheck(model, strategy, layout, apart, options.local_steps > 1)
        self._totals = MetricReduction(model, strategy, layout, logs, self.drift)
        self.programs = make_programs(model, strategy, layout, logs, self._local)
        self.programs.shards = shards
        self.chunk_seconds = self.programs.chunk_seconds

    def working(self) -> AbstractContextManager[None]:
        """For all that traces and runs steps; see `Programs`."""
        return self.programs.working()

    def prediction(self) -> Prediction:
        """What predicts; see `Programs`."""
        return self.programs.prediction(self.all_gather)

    # ------------------------------------------------------------ chunks

    def chunks(
        self, mode: Mode, data: Stream, chunk_length: ChunkLength
    ) -> Generator[Chunk, None, None]:
        """Yields, until an epoch's data end, what runs the next steps on all replicas."""
        step = 0
        gathers = self._rows.replicas > 1 and chunk_length.every is None
        while (left := data.left(step)) != 0:
            started = time.perf_counter()
            count = chunk_length.next_length(left, step)
            if gathers and data.counted and 1 < count == left:
                count -= 1  # a shorter last batch in a loop of its own: see `run_loop`
            steps = None if data.counted else data.take(count, self.all_gather)
            if steps is not None and not steps:
                return
            count = count if steps is None else len(steps)
            yield functools.partial(
                self._run_chunk, mode, data, chunk_length, steps, count, started
            )
            step += count

    def _run_chunk(
        self,
        mode: Mode,
        data: Stream,
        chunk_length: ChunkLength,
        steps: Sequence[Step] | None,
        count: int,
        started: float,
    ) -> tuple[int, Logs]:
        if steps is None:
            absent = data.may_leave_replicas_out
            ran = self.run_loop(mode, data.iterator, count, absent, data.on_devices)
            data.took(count)
        else:
            ran = self.run_steps(mode, steps, data.may_leave_replicas_out, data.step_spec)
        step_logs, fingerprint, rows = ran
        data.rows += int(rows)
        if mode == "train" and chunk_length.every is not None:
            self.bring_together()  # a callback may look at them now
        waits = self.layout.workers > 1
        with fit_clock.CLOCK.during("exchange") if waits else contextlib.nullcontext():
            reading = self._totals.read(
                mode, step_logs, fingerprint, chunk_length.told, data.varies_with
            )
        chunk_length.agreed(*reading.numbers.T)
        chunk_length.took(count, time.perf_counter() - started)
        return count, reading.logs

    def tells_apart(self, data: Stream) -> set[str]:
        """What graphs wait for is known where they have a clock; see `Family`.

        Where a GPU computes, the host goes on to the next batch before the step has ended: then it
        does not know whether anything waits for it.
        """
        on_gpu = bool(tf.config.list_logical_devices("GPU"))
        clock = step_clock.is_running() and not self.model.run_eagerly and not on_gpu
        found = {"input"} if clock or not data.counted else set()
        return found | ({"exchange"} if self.programs.separates_exchange else set())

    def on_batch(self, mode: Mode, step: Step) -> Logs:
        """Takes one step by itself; returns its logs."""
        absent = int(step.total) < self._rows.replicas
        step_logs, fingerprint, _ = self.run_steps(mode, [step], absent)
        if mode == "train":
            self.bring_together()
        return self._totals.read(mode, step_logs, fingerprint, []).logs

    # ------------------------------------------------------------ steps

    def run_loop(
        self,
        mode: Mode,
        iterator: Iterator[Step],
        steps: int,
        may_be_absent: bool,
        on_devices: tuple[resident.Held, ...] = (),
    ) -> Ran:
        """Runs `steps` steps on an iterator known to have them.

        Sparse gradients are gathered over replicas, and TensorFlow wants gathered tensors to have
        one shape all through a loop: batches of another size go into another one.

        Args:
            mode: "train" or "test".
            iterator: over `Step`s.
            steps: how many, at least 1.
            may_be_absent: whether some batch may leave a replica without rows.
            on_devices: see `Stream`.

        Returns:
            The last step's logs that are no metrics, as this process's part of their sum, the sum
            of the fingerprints, and that of the rows of all replicas.
        """
        if self.model.run_eagerly:
            taken_ = [next(iterator) for _ in range(steps)]
            if on_devices:
                there = resident.places(own_gpus.of_replicas(self.strategy), on_devices)
                taken_ = [resident.rows_of(step, on_devices, there) for step in taken_]
            return self.run_steps(mode, taken_, may_be_absent)
        count = tf.constant(steps, tf.int32)
        return self._call("loop", mode, may_be_absent, iterator, count, on_devices)

    def run_steps(
        self, mode: Mode, steps: Sequence[Step], may_be_absent: bool, spec: Step | None = None
    ) -> Ran:
        """Runs the given steps one by one; returns as `run_loop`.

        Args:
            mode: "train" or "test".
            steps: of this process's data.
            may_be_absent: whether some batch may leave a replica without rows.
            spec: of all steps of their stream. Written for the first one's own shapes, the program
                would count rows by a constant, where the next ones' count as Keras counts what has
                no static shape.
        """
        logs: dict[str, tf.Tensor] = {}
        fingerprint = np.int64(0)
        rows = 0
        alone = self._rows.replicas == 1
        if spec is not None and not self.model.run_eagerly:
            self._write(mode, may_be_absent, spec_like(steps[0], spec))
        for step in steps:
            logs = self._call("one", mode, may_be_absent, *taken(step))
            fingerprint += step.fingerprint.numpy()
            rows += count_rows(step.parts[0]) if alone else int(step.total)
        return logs, fingerprint, rows

    def _call(self, kind: str, mode: Mode, may_be_absent: bool, *args: object) -> Any:
        try:
            return self._function(kind, mode, may_be_absent)(*args)
        except TraceAgain:
            self._functions.clear()
            return self._function(kind, mode, may_be_absent)(*args)

    def _write(self, mode: Mode, may_be_absent: bool, spec: Step) -> None:
        """Writes the program of one step for batches of this spec, if there is none yet."""
        asked = ("one", mode, may_be_absent)
        if (*asked, step_clock.is_running()) in self._functions:
            return
        try:
            cast(Traced, self._function(*asked)).get_concrete_function(*taken(spec))
        except TraceAgain:
            self._functions.clear()
            cast(Traced, self._function(*asked)).get_concrete_function(*taken(spec))

    def _function(self, kind: str, mode: Mode, may_be_absent: bool) -> Callable[..., Any]:
        """The program of this kind ("one" or "loop"), written once."""
        key = (kind, mode, may_be_absent, step_clock.is_running())
        if key not in self._functions:
            tf_collectives.learn_order(self.strategy, self.layout.first)
            if kind == "one":
                self._functions[key] = self.programs.one(mode, may_be_absent)
            else:
                one = self._function("one", mode, may_be_absent)
                self._functions[key] = self.programs.loop(mode, may_be_absent, one)
        return self._functions[key]

    # ------------------------------------------------------------ metrics

    def reset_metrics(self) -> None:
        """Sets every metric back, on every replica."""
        self._totals.reset()

    def all_gather(self, numbers: Sequence[float]) -> np.ndarray:
        """Shows this worker's numbers to all; returns `[workers, n]`, the same on every worker."""
        return self._all_gather.all_gather(numbers)

    # ------------------------------------------------------------ state

    def prepare_to_train(self) -> None:
        """Makes the variables that the exchange of gradients needs, before steps are traced."""
        if self.programs.exchange is None:
            self.programs.exchange = make_exchange(self._options, self.model, self.strategy)
        if self._shards is not None:
            self._shards.tell_sizes()

    def retrace(self) -> None:
        """Makes the steps anew, of the model as it is now (what is frozen, which optimizer)."""
        self._functions.clear()
        self.drift.begin()

    def begin_to_train(self) -> None:
        """Starts from the weights as they are now, whoever has set them."""
        self.drift.begin()
        if self._shards is not None:
            self._shards.forget_loaded()
        if isinstance(self.programs.exchange, LocalSteps):
            self._on_replicas(("begin",), self.programs.exchange.begin)

    def bring_together(self) -> None:
        """Makes the replicas agree on everything that they may have changed for themselves."""
        if self.layout.replicas == 1:
            return
        if isinstance(self.programs.exchange, LocalSteps):
            share = tf.constant(1 / self.layout.replicas, tf.float64)
            step = ReplicaStep(self.strategy, share, may_be_absent=False)
            self._on_replicas(("meet",), functools.partial(self.programs.exchange.meet, step))
        if variables := self._local.variables:
            self._local.warn()
            self._on_replicas(("average", *map(id, variables)), self._local.average)

    def gathered(self, keep: bool, call: bool = False) -> AbstractContextManager[None]:
        """Slots that are shared out, whole; see `Family`."""
        if self._shards is None:
            return contextlib.nullcontext()
        if call and self.layout.workers > 1 and whole_slots.current() is None:
            self._all_gather.meet("save")
        return self._shards.gathered(keep)

    at_rest = True  # between two chunks

    def replica_states(self) -> list[dict[str, list[np.ndarray]]]:
        """What each replica of this process has counted, and what the exchange remembers."""
        local = self.layout.local
        metrics = replica_states.read(self.strategy, self._metrics, local)
        exchange = replica_states.read(self.strategy, self._of_exchange, local)
        return [{"metrics": m, "exchange": e} for m, e in zip(metrics, exchange, strict=True)]

    def set_replica_states(self, states: Sequence[Mapping[str, Sequence[np.ndarray]]]) -> None:
        """Goes on from what the replicas of a run, all of them, have had; see `Family`."""
        own = slice(self.layout.first, self.layout.first + self.layout.local)
        if states[0]["metrics"]:
            kinds = [v.aggregation for v in self._totals.variables]
            metrics = replica_states.shared_out(
                [state["metrics"] for state in states], kinds, self.layout.replicas
            )
            replica_states.write(self.strategy, self._metrics, metrics[own])
        if len(states) == self.layout.replicas and states[0].get("exchange"):
            exchange = [state["exchange"] for state in states]
            replica_states.write(self.strategy, self._of_exchange, exchange[own])

    @property
    def _metrics(self) -> list[tf.Variable]:
        return [v.value for v in self._totals.variables]

    @property
    def _of_exchange(self) -> list[tf.Variable]:
        return self.programs.exchange.own_variables if self.programs.exchange else []

    def broadcast(self, variables: Sequence[keras.Variable]) -> None:
        """Gives every worker the chief's values of these variables."""
        if self.layout.workers == 1:
            return
        if self._shards is not None:
            shares = self._shards.by_value
            variables = [v for v in variables if id(v.value) not in shares]
            self._shards.take_the_chiefs(self.all_gather)

        def on_replica() -> None:
            values = packing.broadcast_from_first([tf.identity(v.value) for v in variables])
            for variable, value in zip(variables, values, strict=True):
                write(self.strategy, variable.value, value)

        self._on_replicas(("broadcast", *map(id, variables)), on_replica)

    def _on_replicas(self, key: tuple[object, ...], on_replica: Callable[[], None]) -> None:
        """Runs a function on every replica; what has been traced under a key is used again."""

        def run() -> None:
            with one_machine_semantics(self.strategy):
                self.strategy.run(on_replica)

        if key not in self._functions:
            self._functions[key] = traced(run)
        self._functions[key]()
