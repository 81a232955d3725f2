"""How steps are taken on parameter servers: by workers, each at its own pace, none waiting.

The chief hands chunks of steps to whichever worker is free and adds up what they return. Batches of
arrays and datasets are read by the chief and travel with the chunk, so each is worked on once,
whoever is lost meanwhile; with a function of `tf.distribute.InputContext` the workers read their
own (`worker_pipelines`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist import log, process
from tfdist.compat import tf_strategies
from tfdist.errors import PlugError, TaskLost
from tfdist.strategies import own_gpus, registry
from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.data.stream import Step, Stream
from tfdist.training.embeddings.embedding_tables import EmbeddingTables
from tfdist.training.loop.chunking import TARGET_SECONDS, ChunkLength
from tfdist.training.loop.family import Chunk
from tfdist.training.loop.prediction import Prediction
from tfdist.training.mode import Mode
from tfdist.training.model_parts import unique
from tfdist.training.parameter_server.batch_messages import (
    PackedBatches,
    pack,
    specs_of,
)
from tfdist.training.parameter_server.chunk_tickets import ChunkTicket, ChunkTickets
from tfdist.training.parameter_server.metric_totals import MetricTotals
from tfdist.training.parameter_server.placement import describe_placement, placed
from tfdist.training.parameter_server.server_updates import ServerUpdates
from tfdist.training.parameter_server.staleness_bound import StalenessBound
from tfdist.training.parameter_server.staleness_count import StalenessCount
from tfdist.training.parameter_server.step_numbers import StepNumbers
from tfdist.training.parameter_server.work_queue import WorkQueue
from tfdist.training.parameter_server.worker_pipelines import WorkerPipelines
from tfdist.training.parameter_server.worker_prediction import WorkerPrediction
from tfdist.training.parameter_server.worker_programs import WorkerPrograms
from tfdist.training.parameter_server.worker_step import WorkerStep
from tfdist.training.peers.drift import DriftCheck
from tfdist.training.peers.lost_servers import told_of_lost_servers
from tfdist.training.plug_options import TrainingOptions
from tfdist.training.replica import replica_states
from tfdist.training.replica.step_logs import StepLogs, as_plain

__all__ = ["Asynchronous"]

_AHEAD = 2  # chunks for each worker: one that it works on, one that waits for it
_MORE_SLOTS = 64  # a chunk is several where shapes of its batches differ
_SMALLEST = 8  # the last chunks of an epoch are no smaller than a full one divided by this
_TICK_SECONDS = 1.0
_IDLE_SECONDS = 0.02  # between two questions to workers that have all run out but one


class Asynchronous:
    """Takes training, test and prediction steps of one model on a parameter-server strategy.

    Args:
        model: a built and compiled Keras model.
        strategy: a `tf.distribute.ParameterServerStrategy`.
        layout: the chief's.
        options: how often to fetch and push.
        tables: the model's sharded embeddings.
    """

    chunk_seconds = TARGET_SECONDS

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        options: TrainingOptions,
        tables: EmbeddingTables,
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.layout = layout
        self.coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        self.workers = registry.count_tasks("worker")
        self._options = options
        self._tables = tables
        self._warm = options.warm_start
        self._told = False
        self._alone_since: float | None = None
        self._queue: WorkQueue | None = None
        self._slots = _AHEAD * self.workers + _MORE_SLOTS
        bound = StalenessBound(options.max_staleness, self.workers)
        self._tickets = ChunkTickets(StepNumbers(self._slots), bound)
        self.staleness = None if options.max_staleness is None else StalenessCount()
        self._logs = StepLogs(model)
        self.drift = DriftCheck(model, strategy, layout, {}, False)  # there is one copy of all

    @functools.cached_property
    def _totals(self) -> MetricTotals:
        self.model.reset_metrics()
        return MetricTotals(unique(v for metric in self.model.metrics for v in metric.variables))

    @functools.cached_property
    def _programs(self) -> WorkerPrograms:
        writes = ServerUpdates(self._slots)
        rest = self._totals.rest
        options, tables = self._options, self._tables
        step = WorkerStep(
            self.model, options, tables, rest, self._logs, writes, self.device, self.staleness
        )
        return WorkerPrograms(step)

    @functools.cached_property
    def device(self) -> str:
        """Where the model computes, on whichever worker."""
        return own_gpus.of_workers()

    # ------------------------------------------------------------ chunks

    def working(self) -> contextlib.AbstractContextManager[None]:
        """For all that traces and runs steps: says which parameter servers are lost."""
        return told_of_lost_servers(self.strategy, ("ps",), "the variables that it kept")

    def chunks(
        self, mode: Mode, data: Stream, chunk_length: ChunkLength
    ) -> Generator[Chunk, None, None]:
        """Yields, until an epoch's data end, what waits for the next steps that workers take."""
        queue = self._queue = WorkQueue(self.coordinator)
        give: Any = self._give_own if isinstance(data, WorkerPipelines) else self._give_rows
        given = 0
        if mode == "train" and self.staleness is not None:
            self.staleness.begin()
        try:
            while True:
                limit = self._limit(mode)
                while len(queue) < limit and (
                    count := give(mode, data, chunk_length, queue, given)
                ):
                    given += count
                if not len(queue) and not queue.early:
                    if mode == "train" and self.staleness is not None:
                        log.info("staleness: %s", self.staleness.describe() or "no updates")
                    return
                yield functools.partial(self._next, mode, data, chunk_length, queue)
                if isinstance(data, WorkerPipelines):
                    given = data.given
        finally:
            self._tickets.give_back(queue.tickets)
            queue.drain()
            self._totals.store()

    def _limit(self, mode: Mode) -> int:
        return 1 if mode == "train" and self._warm > 0 else _AHEAD * self.workers

    def _length(self, mode: Mode, chunk_length: ChunkLength, left: int | None, given: int) -> int:
        """Steps of the next chunk, or 0 where others must come back first."""
        length = self._usual_length(chunk_length, left, given)
        most = self._tickets.steps() if mode == "train" else None
        return length if most is None else min(length, most)

    def _usual_length(self, chunk_length: ChunkLength, left: int | None, given: int) -> int:
        """Steps of a chunk: the fewer are left, the smaller the parts they are shared in."""
        length = chunk_length.next_length(left, given)
        if chunk_length.every is not None:
            return length
        together = math.lcm(self._options.fetch_every, self._options.push_every)
        if left is not None:
            share = math.ceil(left / (_AHEAD * self.workers))
            length = min(length, max(1, share, length // _SMALLEST))  # a message costs something
        return length if length < together else length // together * together

    def _give_rows(
        self, mode: Mode, data: Stream, chunk_length: ChunkLength, queue: WorkQueue, given: int
    ) -> int:
        """Hands out the next batches; returns how many."""
        left = data.left(given)
        length = 0 if left == 0 else self._length(mode, chunk_length, left, given)
        if length == 0:
            return 0
        steps = data.take(length, self.all_gather)
        for rows in pack([step.parts[0] for step in steps]):
            self._start(mode, rows, queue)
        return len(steps)

    def _start(self, mode: Mode, rows: PackedBatches, queue: WorkQueue) -> None:
        """Hands out some batches; in training, a lost worker's updates are known by the ticket."""
        steps = len(rows.sizes)
        arguments: list[Any] = [rows, tf.constant(steps)]
        specs: list[Any] = [specs_of(rows), tf.TensorSpec([], tf.int32)]
        ticket = ChunkTicket(steps)
        if mode == "train":
            while not self._tickets.has_room:
                if not len(queue):
                    raise PlugError(
                        "a callback asks for a step while all that workers may be given at once "
                        "is under way: call train_on_batch before or after fit"
                    )
                queue.early.append(self._back(self.wait(queue), queue))
            ticket = self._tickets.take(steps, slot=True)
            queue.tickets.add(ticket)
            arguments.append(tf.constant([ticket.slot, ticket.first], tf.int64))
            specs.append(tf.TensorSpec([2], tf.int64))
        function = self._programs.function(mode, "rows", specs)
        queue.start(function, arguments, tag=ticket)

    def _back(self, came: tuple[ChunkTicket, Any], queue: WorkQueue) -> tuple[int, Any]:
        """How many steps were asked for, and what has come of them; their slot is free."""
        ticket, result = came
        self._tickets.give_back({ticket})
        queue.tickets.discard(ticket)
        return ticket.steps, result

    def _give_own(
        self,
        mode: Mode,
        data: WorkerPipelines,
        chunk_length: ChunkLength,
        queue: WorkQueue,
        given: int,
    ) -> int:
        """Lets one more worker take steps on its own data; returns how many at most."""
        left = None if data.steps_asked is None else max(0, data.steps_asked - given)
        busy = len(queue) >= self.workers - len(data.ended_workers)
        if left == 0 or len(data.ended_workers) == self.workers:
            return 0
        if data.ended_workers and busy:
            return 0
        count = self._length(mode, chunk_length, left, given)
        if count == 0:
            return 0
        specs = (tf_strategies.spec_of_remote(data.iterators), tf.TensorSpec([], tf.int32))
        function = self._programs.function(mode, "own", specs)
        data.promised += count
        ticket = ChunkTicket(count)
        if mode == "train":
            ticket = self._tickets.take(count, slot=False)
            queue.tickets.add(ticket)
        queue.start(function, (data.iterators, tf.constant(count)), tag=ticket)
        return count

    def _next(
        self, mode: Mode, data: Stream, chunk_length: ChunkLength, queue: WorkQueue
    ) -> tuple[int, dict[str, Any]]:
        """Waits until some steps have been taken; returns how many, and the logs so far."""
        taken = 0
        own: dict[str, Any] = {}
        came = queue.early.popleft() if queue.early else self._back(self.wait(queue), queue)
        while True:
            promised, result = came
            taken += int(result["steps"])
            data.rows += int(result["rows"])
            own = result["logs"] or own
            self._totals.add(result["metrics"])
            if result["steps"]:
                chunk_length.agreed(*([one] for one in chunk_length.told))
                chunk_length.took(int(result["steps"]), float(result["seconds"]))
            if isinstance(data, WorkerPipelines):
                data.returned(int(result["steps"]), promised)
                if result["ended"]:
                    data.ended_workers.add(int(result["worker"]))
                    time.sleep(_IDLE_SECONDS)
            if chunk_length.every is not None:
                break
            if queue.early:
                came = queue.early.popleft()
                continue
            one = queue.wait(0.0) if len(queue) else None
            if one is None:
                break
            came = self._back(one, queue)
        if mode == "train":
            self._warm -= taken
        return taken, self._results(mode, own)

    def _results(self, mode: Mode, own: dict[str, Any]) -> dict[str, Any]:
        logs = self._logs.results(mode, self._totals.states(), own)
        found = {name: as_plain(tf.convert_to_tensor(value)) for name, value in logs.items()}
        if mode == "train" and self.staleness is not None:
            found |= self.staleness.logs()
        return found

    def wait(self, queue: WorkQueue) -> tuple[Any, Any]:
        """Waits for a result; while it does, makes sure that there is somebody to bring one."""
        while (came := queue.wait(_TICK_SECONDS)) is None:
            self.look_for_workers(queue)
        self._alone_since = None
        return came

    def look_for_workers(self, queue: WorkQueue) -> None:
        """Makes sure that somebody is there to bring what is waited for, or comes back in time."""
        membership = registry.membership_of(self.strategy)
        if membership is None or any(t.type == "worker" for t in membership.present()):
            self._alone_since = None
            return
        self._alone_since = self._alone_since or time.monotonic()
        if time.monotonic() - self._alone_since > process.stall_timeout():
            queue.forget()
            raise TaskLost(
                f"chief:0 lost all {self.workers} workers, and none has come back for "
                f"{process.stall_timeout():.0f} s: their own logs tell why; start the job "
                "again, with tfdist.callbacks.Checkpoint it resumes where it was"
            )

    def tells_apart(self, data: Stream) -> set[str]:
        """The chief reads the batches, or nobody here does; what workers do, it waits for."""
        return set() if isinstance(data, WorkerPipelines) else {"input"}

    def on_batch(self, mode: Mode, step: Step) -> dict[str, Any]:
        """Takes one step by itself, on some worker; returns its logs."""
        queue, others = WorkQueue(self.coordinator), self._queue
        while mode == "train" and self._tickets.steps() == 0 and others:  # in a callback of fit
            others.early.append(self._back(self.wait(others), others))
        try:
            self._start(mode, pack([step.parts[0]])[0], queue)
            result = self._back(self.wait(queue), queue)[1]
        finally:
            self._tickets.give_back(queue.tickets)
        self._totals.add(result["metrics"])
        self._totals.store()
        return self._results(mode, result["logs"])

    @property
    def fetched(self) -> list[keras.Variable]:
        """The model's variables that a worker reads as a whole: all but the tables."""
        tables = {id(variable) for variable in self._tables.variables}
        return [v for v in unique(self.model.variables) if id(v) not in tables]

    # ------------------------------------------------------------ the rest of a family

    def reset_metrics(self) -> None:
        """Sets every metric back."""
        self.model.reset_metrics()
        self._totals.reset()

    def all_gather(self, numbers: Sequence[float]) -> np.ndarray:
        """Shows the numbers to all that run the loop: the chief alone."""
        return np.asarray([numbers], np.float64)

    def prepare_to_train(self) -> None:
        """Says where the variables are, the first time."""
        if not self._told:
            self._told = True
            variables = unique([*self.model.variables, *self.model.optimizer.variables])
            for line in describe_placement(placed(variables)).splitlines():
                log.info("%s", line)

    def retrace(self) -> None:
        """Refuses: steps are on their way.

        Raises:
            PlugError: always.
        """
        raise PlugError(
            "a callback has called make_train_function while fit was running, but parameter "
            "servers cannot change the steps of a running fit: freeze layers between two calls"
        )

    def begin_to_train(self) -> None:
        """Nothing: workers fetch the weights as they are."""

    def gathered(self, keep: bool, call: bool = False) -> contextlib.AbstractContextManager[None]:
        """Nothing is shared out but over the servers, from where everybody reads it."""
        del keep, call
        return contextlib.nullcontext()

    def bring_together(self) -> None:
        """Nothing: the variables are on the servers, where everybody reads them."""

    @property
    def at_rest(self) -> bool:
        """Whether no worker has anything to do, so that the variables stay as they are."""
        return self._queue is None or not (len(self._queue) or self._queue.early)

    def replica_states(self) -> list[dict[str, list[np.ndarray]]]:
        """What all workers have counted, as one replica would have."""
        return [{"metrics": [np.asarray(value) for _, value in self._totals.states()]}]

    def set_replica_states(self, states: Sequence[Mapping[str, Sequence[np.ndarray]]]) -> None:
        """Goes on from what the replicas of a run have had; see `Family`."""
        if not states[0]["metrics"]:
            return
        kinds = [v.aggregation for v in self._totals.variables]
        metrics = replica_states.shared_out([state["metrics"] for state in states], kinds, 1)
        self._totals.go_on_from(metrics[0])

    def broadcast(self, variables: Sequence[keras.Variable]) -> None:
        """Nothing: there is one copy of each variable."""

    def prediction(self) -> Prediction:
        """What predicts, on the workers."""
        return WorkerPrediction(self)
