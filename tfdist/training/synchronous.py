"""How a step is taken on replicas that stay in step: one device, mirrored, multi-worker mirrored.

Chunks of steps run inside one TensorFlow graph loop. Only gradients cross the replicas at every
step; metrics stay on the replica that counted them until someone reads them (`read`), and are then
summed over all replicas in one collective.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist import internals
from tfdist.strategies.layout import ReplicaLayout
from tfdist.training import packing
from tfdist.training.exchange import LocalSteps, make_exchange
from tfdist.training.family import Chunk
from tfdist.training.likeness import Likeness
from tfdist.training.metric_totals import MetricTotals
from tfdist.training.metrics import Reading, StepLogs, are_used, recorded_results
from tfdist.training.options import TrainingOptions
from tfdist.training.pace import TARGET_SECONDS, Pace
from tfdist.training.replica import (
    ReplicaStep,
    Replication,
    Rows,
    compiled,
    known_metrics,
    one_machine_semantics,
    replica_step,
)
from tfdist.training.replica.local_state import LocalState
from tfdist.training.replica.reductions import weighted_part
from tfdist.training.stream import Step, Stream, without_optionals
from tfdist.training.teller import Teller
from tfdist.training.tracing import traced

__all__ = ["Synchronous"]


class _TraceAgain(Exception):
    """A step was written by what its end has shown to be wrong; the second time all is known."""


class Synchronous:
    """Takes training, test and prediction steps of one model on one strategy.

    Args:
        model: a built and compiled Keras model.
        strategy: the strategy in whose scope it was made.
        layout: the strategy's replicas.
        options: how the replicas exchange gradients.
    """

    chunk_seconds = TARGET_SECONDS

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        options: TrainingOptions,
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.layout = layout
        internals.separate_collectives(strategy)
        self._options = options
        self._exchange: Any = None
        self._local = LocalState(model, strategy)
        self._whole_results = bool(model.run_eagerly)  # else it shows when a step is traced
        self._functions: dict[Any, Callable[..., Any]] = {}
        self._logs = StepLogs(model)
        self._teller = Teller.of(strategy, layout)
        self.likeness = Likeness(
            model, strategy, layout, self._local.written, options.local_steps > 1
        )
        self._totals = MetricTotals(model, strategy, layout, self._logs, self.likeness)

    def working(self) -> contextlib.AbstractContextManager[None]:
        """For all that traces and runs steps."""
        return contextlib.nullcontext()

    # ------------------------------------------------------------ chunks

    def chunks(self, mode: str, data: Stream, pace: Pace) -> Generator[Chunk, None, None]:
        """Yields, until an epoch's data end, what runs the next steps on all replicas."""
        step = 0
        gathers = self.layout.replicas > 1 and pace.every is None
        while (left := data.left(step)) != 0:
            started = time.perf_counter()
            count = pace.next_length(left)
            if gathers and data.counted and 1 < count == left:
                count -= 1  # a shorter last batch in a loop of its own: see `run_loop`
            steps = None if data.counted else data.take(count, self.tell)
            if steps is not None and not steps:
                return
            count = count if steps is None else len(steps)
            yield functools.partial(self._run_chunk, mode, data, pace, steps, count, started)
            step += count

    def _run_chunk(
        self,
        mode: str,
        data: Stream,
        pace: Pace,
        steps: Sequence[Step] | None,
        count: int,
        started: float,
    ) -> tuple[int, dict[str, Any]]:
        if steps is None:
            ran = self.run_loop(mode, data.iterator, count, data.may_leave_replicas_out)
            data.took(count)
        else:
            ran = self.run_steps(mode, steps, data.may_leave_replicas_out)
        if mode == "train" and pace.every is not None:
            self.bring_together()  # a callback may look at them now
        reading = self.read(mode, *ran, numbers=[pace.seconds], varies_with=data.varies_with)
        pace.agreed(float(np.mean(reading.numbers[:, 0])))
        pace.took(count, time.perf_counter() - started)
        return count, reading.logs

    def on_batch(self, mode: str, step: Step) -> dict[str, Any]:
        """Takes one step by itself; returns its logs."""
        absent = int(step.total) < self.layout.replicas
        step_logs, fingerprint = self.run_steps(mode, [step], absent)
        if mode == "train":
            self.bring_together()
        return self.read(mode, step_logs, fingerprint, []).logs

    # ------------------------------------------------------------ steps

    def run_loop(
        self, mode: str, iterator: Iterator[Step], steps: int, may_be_absent: bool
    ) -> tuple[dict[str, tf.Tensor], Any]:
        """Runs `steps` steps on an iterator known to have them.

        Sparse gradients are gathered over replicas, and TensorFlow wants gathered tensors to have
        one shape all through a loop: batches of another size go into another one.

        Args:
            mode: "train" or "test".
            iterator: over `Step`s.
            steps: how many, at least 1.
            may_be_absent: whether some batch may leave a replica without rows.

        Returns:
            The last step's logs that are no metrics, as this process's part of their sum, and the
            sum of the fingerprints.
        """
        if self.model.run_eagerly:
            return self.run_steps(mode, [next(iterator) for _ in range(steps)], may_be_absent)
        return self._call(
            (mode, "loop", may_be_absent), self._make_loop, iterator, tf.constant(steps, tf.int32)
        )

    def run_steps(
        self, mode: str, steps: Sequence[Step], may_be_absent: bool
    ) -> tuple[dict[str, tf.Tensor], Any]:
        """Runs the given steps one by one; returns as `run_loop`."""
        logs: dict[str, tf.Tensor] = {}
        fingerprint = np.int64(0)
        for step in steps:
            logs = self._call((mode, "one", may_be_absent), self._make_one, *self._taken(step))
            fingerprint += step.fingerprint.numpy()
        return logs, fingerprint

    @staticmethod
    def _taken(step: Any) -> tuple[Any, ...]:
        """What a step's function takes of a `Step`, or of its specs."""
        return step.parts, step.shares, step.starts, step.sizes, step.total

    def _call(self, key: tuple[str, str, bool], make: Callable[..., Any], *args: Any) -> Any:
        try:
            return self._function(key, make)(*args)
        except _TraceAgain:
            self._functions.clear()
            return self._function(key, make)(*args)

    def _function(self, key: tuple[str, str, bool], make: Callable[..., Any]) -> Any:
        if key not in self._functions:
            self._functions[key] = make(key[0], key[2])
        return self._functions[key]

    def _make_one(self, mode: str, may_be_absent: bool) -> Callable[..., Any]:
        run = functools.partial(self._one_step, mode, may_be_absent)
        if self.model.run_eagerly:
            return run
        jit = bool(self.model.jit_compile) and self.layout.replicas == 1
        return traced(run, reduce_retracing=True, jit_compile=jit)

    def _make_loop(self, mode: str, may_be_absent: bool) -> Callable[..., Any]:
        one = self._function((mode, "one", may_be_absent), self._make_one)

        def loop(iterator: Any, steps: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            spec = iterator.element_spec
            logs_spec = one.get_concrete_function(*self._taken(spec)).structured_outputs
            no_logs = {
                name: tf.zeros([size or 0 for size in value.shape], value.dtype)
                for name, value in logs_spec.items()
            }

            def body(i: tf.Tensor, fingerprint: tf.Tensor, _: Any) -> tuple[Any, ...]:
                step = next(iterator)
                return i + 1, fingerprint + step.fingerprint, one(*self._taken(step))

            start = (tf.constant(0), tf.zeros((), tf.int64), no_logs)
            invariants = (
                tf.TensorShape([]),
                tf.TensorShape([]),
                {name: value.shape for name, value in logs_spec.items()},
            )
            _, fingerprint, logs = tf.while_loop(
                lambda i, *_: i < steps,
                body,
                start,
                shape_invariants=invariants,
                parallel_iterations=1,
            )
            return logs, fingerprint

        return traced(loop, reduce_retracing=True)

    def _one_step(
        self, mode: str, may_be_absent: bool, parts: tuple[Any, ...], *numbers: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """One step on all replicas of this process; the logs are its part of their sum.

        Args:
            mode: "train" or "test".
            may_be_absent: whether a replica may be without rows.
            parts: as in `Step`.
            *numbers: `shares`, `starts`, `sizes` and `total` of the `Step`.
        """
        step_function = self.model.train_step if mode == "train" else self.model.test_step
        if self.layout.replicas == 1:
            with recorded_results(self.model) as results:
                return self.strategy.run(
                    lambda data: self._logs.sort(
                        mode, step_function(without_optionals(data)), results
                    ),
                    args=(parts[0],),
                )
        *split, total = numbers
        in_sync = self._local.in_sync()
        replications: list[Replication] = []

        def on_replica(
            data: Any, share: tf.Tensor, start: tf.Tensor, size: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            data = without_optionals(data)
            step = ReplicaStep(
                self.strategy,
                share,
                may_be_absent,
                self._exchange,
                Rows.of(data, start, size, total),
                Replication(in_sync),
            )
            replications.append(step.replication)
            with replica_step(step):

                def take(data: Any) -> dict[str, tf.Tensor]:
                    return self._logs.sort(mode, step_function(data), results)

                jit = self.model.jit_compile and not self.model.run_eagerly
                logs = compiled(step, take, data) if jit else take(data)
                self._local.wrote(step)
                if mode == "train" and self._exchange is not None:
                    self._exchange.after_step(step)
                return {name: weighted_part(step, value) for name, value in logs.items()}

        with (
            recorded_results(self.model, self._whole_results) as results,
            known_metrics(self.model),
            one_machine_semantics(self.strategy),
        ):
            per_replica = self.strategy.run(
                on_replica,
                args=tuple(map(self.spread, (parts, *map(tf.unstack, split)))),
            )
        uses = are_used(results) and not self._whole_results
        if uses or not all(replication.holds() for replication in replications):
            self._whole_results = uses or self._whole_results
            raise _TraceAgain
        return {
            name: tf.add_n(self.strategy.experimental_local_results(value))
            for name, value in per_replica.items()
        }

    def spread(self, values: Sequence[Any]) -> Any:
        """Gives each local replica its entry of `values`."""
        first = self.layout.first

        def value(context: tf.distribute.ValueContext) -> Any:
            return values[context.replica_id_in_sync_group - first]

        return self.strategy.experimental_distribute_values_from_function(value)

    # ------------------------------------------------------------ metrics

    def reset_metrics(self) -> None:
        """Sets every metric back, on every replica."""
        self._totals.reset()

    def read(
        self,
        mode: str,
        step_logs: dict[str, tf.Tensor],
        fingerprint: Any,
        numbers: Sequence[float],
        varies_with: Callable[[], set[str]] = set,
    ) -> Reading:
        """Sums the metrics over all replicas and reads them; see `MetricTotals.read`."""
        return self._totals.read(mode, step_logs, fingerprint, numbers, varies_with)

    def tell(self, numbers: Sequence[float]) -> np.ndarray:
        """Shows this worker's numbers to all; returns `[workers, n]`, the same on every worker."""
        return self._teller.tell(numbers)

    # ------------------------------------------------------------ state

    def prepare_to_train(self) -> None:
        """Makes the variables that the exchange of gradients needs, before steps are traced."""
        if self._exchange is None:
            self._exchange = make_exchange(self._options, self.model, self.strategy)

    def retrace(self) -> None:
        """Makes the steps anew, of the model as it is now (what is frozen, which optimizer)."""
        self._functions.clear()
        self.likeness.begin()

    def begin_to_train(self) -> None:
        """Starts from the weights as they are now, whoever has set them."""
        self.likeness.begin()
        if isinstance(self._exchange, LocalSteps):
            self._on_replicas(("begin",), self._exchange.begin)

    def bring_together(self) -> None:
        """Makes the replicas agree on everything that they may have changed for themselves."""
        if self.layout.replicas == 1:
            return
        if isinstance(self._exchange, LocalSteps):
            share = tf.constant(1 / self.layout.replicas)
            step = ReplicaStep(self.strategy, share, may_be_absent=False)
            self._on_replicas(("meet",), functools.partial(self._exchange.meet, step))
        if variables := self._local.variables:
            self._local.warn()
            self._on_replicas(("average", *map(id, variables)), self._local.average)

    def broadcast(self, variables: Sequence[keras.Variable]) -> None:
        """Gives every worker the chief's values of these variables."""
        if self.layout.workers == 1:
            return

        def on_replica() -> None:
            values = packing.broadcast_from_first([tf.identity(v.value) for v in variables])
            for variable, value in zip(variables, values, strict=True):
                self._write(variable, value)

        self._on_replicas(("broadcast", *map(id, variables)), on_replica)

    def _write(self, variable: keras.Variable, value: tf.Tensor) -> None:
        self.strategy.extended.update(
            variable.value, lambda v, x: v.assign(x), args=(value,), group=False
        )

    def _on_replicas(self, key: tuple[Any, ...], on_replica: Callable[[], None]) -> None:
        """Runs a function on every replica; what has been traced under a key is used again."""

        def run() -> None:
            with one_machine_semantics(self.strategy):
                self.strategy.run(on_replica)

        if key not in self._functions:
            self._functions[key] = traced(run)
        self._functions[key]()
