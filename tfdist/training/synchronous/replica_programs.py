"""One step on the replicas of this process, and a loop of them, as TensorFlow programs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import keras
import tensorflow as tf

from tfdist.strategies import own_gpus, step_clock
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Nest, Traced
from tfdist.training.data.stream import AllGatherNumbers, without_optionals
from tfdist.training.loop.chunking import TARGET_SECONDS
from tfdist.training.loop.prediction import Prediction
from tfdist.training.mode import Mode
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
from tfdist.training.replica.lockstep import Lockstep
from tfdist.training.replica.ordered_sum import OrderedSum
from tfdist.training.replica.python_state import PythonState
from tfdist.training.replica.reductions import weighted_part
from tfdist.training.replica.step import Exchange
from tfdist.training.replica.step_logs import StepLogs, are_used, recorded_results
from tfdist.training.slot_shards.sharded_slots import ShardedSlots
from tfdist.training.synchronous.replica_prediction import ReplicaPrediction, spread
from tfdist.training.synchronous.step_loop import step_loop
from tfdist.training.tracing import traced

__all__ = ["Programs", "ReplicaPrograms", "TraceAgain"]


class TraceAgain(Exception):
    """A step was written by what its end has shown to be wrong; the second time all is known."""


class Programs(Protocol):
    """Writes the steps that `Synchronous` runs.

    Attributes:
        chunk_seconds: what the steps between two looks should take.
        exchange: how gradients reach the other replicas; None sums them.
        shards: the optimizers, where they share out their slots.
        separates_exchange: whether a clock tells what steps wait for other replicas from what they
            compute, or there is nobody to wait for.
    """

    chunk_seconds: float
    exchange: Exchange | None
    shards: ShardedSlots | None

    @property
    def separates_exchange(self) -> bool:
        """See above."""

    def working(self) -> contextlib.AbstractContextManager[None]:
        """For all that traces and runs steps: may explain their errors."""

    def one(self, mode: Mode, may_be_absent: bool) -> Callable[..., dict[str, tf.Tensor]]:
        """Returns what takes one step, given `taken` of it; it returns its logs.

        Args:
            mode: "train" or "test".
            may_be_absent: whether the batch may leave a replica without rows.
        """

    def loop(self, mode: Mode, may_be_absent: bool, one: Traced) -> Traced:
        """Returns what takes some steps, given an iterator over `Step`s, their number and arrays.

        The arrays are those on the replicas' GPUs whose rows the steps name (`resident`), or none.
        It returns the last one's logs, the sum of their fingerprints, and that of their rows on all
        replicas.

        Args:
            mode: "train" or "test".
            may_be_absent: whether some batch may leave a replica without rows.
            one: what takes one of these steps.
        """

    def prediction(self, all_gather: AllGatherNumbers) -> Prediction:
        """Returns what predicts.

        Args:
            all_gather: shows this worker's numbers to all.
        """


class ReplicaPrograms:
    """Steps that every replica takes on its own rows.

    Args:
        model: a built and compiled Keras model.
        strategy: the strategy in whose scope it was made.
        layout: the strategy's replicas.
        logs: sorts what a step returns.
        local: what steps write on each replica for itself.
        virtual: sums over the virtual replicas, where there are any.

    Attributes:
        exchange: how gradients reach the other replicas; None sums them.
        shards: the optimizers, where they share out their slots.
    """

    chunk_seconds = TARGET_SECONDS

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        logs: StepLogs,
        local: LocalState,
        virtual: OrderedSum | None = None,
    ) -> None:
        self._model = model
        self._strategy = strategy
        self._layout = layout
        self._logs = logs
        self._local = local
        self._virtual = virtual
        self.exchange: Exchange | None = None
        self.shards: ShardedSlots | None = None
        self._whole_results = bool(model.run_eagerly)  # else it shows when a step is traced

        self._can_separate = (
            layout.workers > 1
            and layout.local == 1
            and virtual is None
            and not model.run_eagerly
            and not tf.config.list_logical_devices("GPU")  # the host does not see when those end
        )

    @property
    def separates_exchange(self) -> bool:
        """See `Programs`."""
        if self._layout.replicas == 1 and self._virtual is None:
            return True
        return self._can_separate and step_clock.separates()

    def working(self) -> contextlib.AbstractContextManager[None]:
        """Errors of replicas are told by the call they happen in."""
        return contextlib.nullcontext()

    def one(self, mode: Mode, may_be_absent: bool) -> Callable[..., dict[str, tf.Tensor]]:
        """What takes one step; see `Programs`."""
        if self._layout.workers > 1:
            step_clock.ready(exchanges=self._can_separate)
        run = functools.partial(self.one_step, mode, may_be_absent)
        if self._model.run_eagerly:
            return run
        alone = self._layout.replicas == 1 and self._virtual is None
        jit = bool(self._model.jit_compile) and alone
        return traced(run, reduce_retracing=True, jit_compile=jit)

    def loop(self, mode: Mode, may_be_absent: bool, one: Traced) -> Traced:
        """What takes some steps; see `Programs`."""
        del mode, may_be_absent  # as `one` has them
        virtual = self._virtual
        alone = self._layout.replicas == 1 and (virtual is None or virtual.layout.replicas == 1)
        gpus = () if self._virtual is not None else own_gpus.of_replicas(self._strategy)
        return step_loop(one, gpus, alone)

    def prediction(self, all_gather: AllGatherNumbers) -> ReplicaPrediction:
        """What predicts; see `Programs`."""
        return ReplicaPrediction(self._model, self._strategy, self._layout, all_gather)

    def one_step(
        self, mode: Mode, may_be_absent: bool, parts: tuple[Nest, ...], *numbers: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """One step on all replicas of this process; the logs are its part of their sum.

        Args:
            mode: "train" or "test".
            may_be_absent: whether a replica may be without rows.
            parts: as in `Step`.
            *numbers: `shares`, `starts`, `sizes` and `total` of the `Step`.
        """
        step_function = self._model.train_step if mode == "train" else self._model.test_step
        if self._layout.replicas == 1 and self._virtual is None:
            with recorded_results(self._model) as results:
                return self._strategy.run(
                    lambda data: self._logs.sort(
                        mode, step_function(without_optionals(data)), results
                    ),
                    args=(parts[0],),
                )
        *split, total = numbers
        shares = {} if self.shards is None else self.shards.by_value
        in_sync = {h: v for h, v in self._local.in_sync().items() if id(v) not in shares}
        steps: list[ReplicaStep] = []
        lockstep = None
        if self._virtual is not None:
            python = PythonState(self._model)
            lockstep = Lockstep(self._strategy, self._virtual, python)

        def on_replica(
            data: Nest, share: tf.Tensor, start: tf.Tensor, size: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            data = without_optionals(data)
            step = ReplicaStep(
                self._strategy,
                share,
                may_be_absent,
                self.exchange,
                Rows.of(data, start, size, total),
                Replication(in_sync),
                lockstep,
            )
            step.shares = self.shards
            steps.append(step)
            with replica_step(step):

                def take(data: Nest) -> dict[str, tf.Tensor]:
                    return self._logs.sort(mode, step_function(data), results)

                jit = self._model.jit_compile and not self._model.run_eagerly and not lockstep
                logs = compiled(step, take, data) if jit else take(data)
                if lockstep is None:
                    self._local.wrote(step)
                else:
                    self._local.took_means(step)
                if mode == "train" and self.exchange is not None:
                    self.exchange.after_step(step)
                return {name: weighted_part(step, value) for name, value in logs.items()}

        with (
            recorded_results(self._model, self._whole_results) as results,
            known_metrics(self._model),
            one_machine_semantics(self._strategy),
        ):
            per_replica = self._run(on_replica, [parts, *map(tf.unstack, split)], lockstep)
        uses = are_used(results) and not self._whole_results
        showed = any(step.showed_parts for step in steps)
        if uses or showed or not all(step.replication.holds() for step in steps):
            self._whole_results = uses or self._whole_results
            if showed and self.shards is not None:
                self.shards.show_sums()
            raise TraceAgain
        return {name: tf.add_n([one[name] for one in per_replica]) for name in per_replica[0]}

    def _run(
        self,
        on_replica: Callable[..., dict[str, tf.Tensor]],
        values: Sequence[Sequence[Nest]],
        lockstep: Lockstep | None,
    ) -> list[dict[str, tf.Tensor]]:
        """Runs a step on the replicas of this process; returns what it has returned for each.

        Args:
            on_replica: the step.
            values: for each of its arguments, those of the replicas.
            lockstep: takes it with virtual replicas; None for real ones.
        """
        if lockstep is not None:
            each = list(zip(*values, strict=True))
            return list(self._strategy.run(lambda: tuple(lockstep.run(on_replica, each))))
        args = tuple(spread(self._strategy, self._layout, value) for value in values)
        logs = self._strategy.run(on_replica, args=args)
        found = {
            name: self._strategy.experimental_local_results(value) for name, value in logs.items()
        }
        return [
            {name: values[i] for name, values in found.items()} for i in range(self._layout.local)
        ]
