"""One step of a model as a worker of a parameter-server job takes it.

Keras' own `train_step` is traced, with three things changed:

*Weights are tensors.* The worker fetches them in few messages when the step begins (`servers`), and
forward and backward passes read that one snapshot. Rows of sharded embedding tables are looked up
where they are.

*Metrics are tensors* that start from rest: what a worker returns is what it has counted itself, and
the coordinator adds that up. No two workers write one variable.

*Updates happen on the servers*, by the optimizer's own code, next to the variables; what must not
be lost (iterations, moving statistics) is added in one indivisible operation. Each is made once,
also where a lost worker's step is taken again (`server_updates`).

With `push_every` or `fetch_every` above 1 this is Downpour SGD: the worker goes on with its own
copy of the weights, and sends the sum of its gradients (Dean et al., "Large Scale Distributed Deep
Networks", 2012, section 4.1 and algorithm 7.1).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat import keras_optimizers, keras_weights, patches
from tfdist.errors import PlugError
from tfdist.strategies import server_variables
from tfdist.structures import Gradient, Variable
from tfdist.training.embeddings.embedding_tables import EmbeddingTables
from tfdist.training.mode import Mode
from tfdist.training.model_parts import optimizers_of, unique
from tfdist.training.parameter_server.optimizer_updates import OptimizerUpdates
from tfdist.training.parameter_server.server_updates import ServerUpdates
from tfdist.training.parameter_server.staleness_count import StalenessCount
from tfdist.training.plug_options import TrainingOptions
from tfdist.training.replica.step_logs import StepLogs, are_used, recorded_results

__all__ = ["Carried", "WorkerStep"]

Carried = dict[str, Any]
"""What a loop of steps hands on from one to the next; see `WorkerStep.start`."""


class WorkerStep:
    """Traces the steps of one plugged model for its workers.

    Args:
        model: a built and compiled model whose variables live on parameter servers.
        options: how often to fetch and to push.
        tables: the sharded embeddings, whose rows are looked up and updated where they are.
        rest: the values of the metrics' variables after a reset.
        logs: sorts what steps return.
        writes: to the servers.
        device: where the model computes, on whichever worker; "" for where TensorFlow likes.
        staleness: counts what updates have missed; None where nobody asks.
    """

    def __init__(
        self,
        model: keras.Model,
        options: TrainingOptions,
        tables: EmbeddingTables,
        rest: Sequence[Any],
        logs: StepLogs,
        writes: ServerUpdates,
        device: str = "",
        staleness: StalenessCount | None = None,
    ) -> None:
        self.model = model
        self._device = device
        self._fetch_every = options.fetch_every
        self._push_every = options.push_every
        self._local_rate = options.local_learning_rate
        self._of_tables = tables
        self._tables = {id(variable) for variable in tables.variables}
        self._rest = list(rest)
        self._logs = logs
        self._writes = writes
        self._updates = OptimizerUpdates(writes, tables, staleness)
        self.metrics = unique(v for metric in model.metrics for v in metric.variables)
        counted = {id(v) for v in self.metrics} | self._tables
        self._weights = [v for v in unique(model.trainable_variables) if id(v) not in counted]
        counted |= {id(v) for v in self._weights}
        self._state = [v for v in unique(model.variables) if id(v) not in counted]
        self._clock = unique(v for one in optimizers_of(model) for v in _clock_of(one))
        self._state_range = slice(len(self._weights), len(self._weights) + len(self._state))
        self._held: Any = None
        self._own_now: list[Any] = []

    # ------------------------------------------------------------ a loop of steps

    def start(self, mode: Mode) -> Carried:
        """What the first step of a chunk is handed: metrics at rest, and the weights.

        Args:
            mode: "train" or "test".
        """
        carried: Carried = {"metrics": [tf.constant(value) for value in self._rest]}
        if mode == "test":
            carried["fetched"] = server_variables.fetch([*self._weights, *self._state])
        elif self._is_downpour:
            values = self._fetch()
            carried["own"] = values
            carried["base"] = values[self._state_range]
            carried["pending"] = [tf.zeros(v.shape, v.value.dtype) for v in self._weights]
            carried["count"] = tf.constant(0)
        return carried

    def take(
        self,
        mode: Mode,
        number: tf.Tensor,
        batch: Any,
        carried: Carried,
        ticket: tf.Tensor | None = None,
    ) -> tuple[Carried, dict[str, tf.Tensor]]:
        """Takes one step.

        Args:
            mode: "train" or "test".
            number: of the step in its chunk, an int32 scalar.
            batch: the data, as `train_step` takes them.
            carried: what `start` or the step before gave.
            ticket: the chunk's slot and the number of its first step; None where no other worker
                will have these data.

        Returns:
            What the next step is to be given, and the logs that are no metrics.
        """
        self._writes.begin(_of_step(ticket, number))
        metrics = list(zip(self.metrics, carried["metrics"], strict=True))
        if mode == "test":
            fixed = zip([*self._weights, *self._state], carried["fetched"], strict=True)
            logs, now, _ = self._traced(mode, batch, [*fixed, *metrics], None)
            return {**carried, "metrics": now}, logs
        if not self._is_downpour:
            fetched = self._fetch()
            values = [*zip(self._fetched, fetched, strict=True), *metrics]
            logs, now, state = self._traced(mode, batch, values, self._apply_now)
            self._push_state(state, fetched[self._state_range])
            return {"metrics": now}, logs
        return self._downpour(number, batch, carried, metrics)

    def finish(
        self, mode: Mode, steps: tf.Tensor, carried: Carried, ticket: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        """Sends what has not been sent; returns the metrics' variables at the chunk's end.

        Args:
            mode: "train" or "test".
            steps: how many were taken, an int32 scalar.
            carried: what the last one gave.
            ticket: as `take` got it.
        """
        self._writes.begin(_of_step(ticket, steps))
        if mode == "train" and self._is_downpour:
            tf.cond(carried["count"] > 0, lambda: self._push(carried), lambda: tf.constant(0))
        return carried["metrics"]

    # ------------------------------------------------------------ one step

    @property
    def _is_downpour(self) -> bool:
        return self._fetch_every > 1 or self._push_every > 1

    @property
    def _fetched(self) -> list[keras.Variable]:
        return [*self._weights, *self._state, *self._clock]

    def _fetch(self) -> list[tf.Tensor]:
        return server_variables.fetch(self._fetched)

    def _traced(
        self,
        mode: Mode,
        batch: Any,
        values: Sequence[tuple[keras.Variable, tf.Tensor]],
        apply: Callable[..., Any] | None,
        check: Callable[[], None] = lambda: None,
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor], list[tf.Tensor]]:
        """Traces the model's own step, and checks; returns its logs, metrics and state after it."""
        step = self.model.train_step if mode == "train" else self.model.test_step
        with (
            keras_weights.held(values, self._assign) as self._held,
            self._updating(apply),
            recorded_results(self.model) as results,
            tf.device(self._device),
        ):
            logs = self._logs.sort(mode, step(batch), results)
            if are_used(results):
                raise PlugError(
                    f"{mode}_step computes something from a metric's result, of which a worker of "
                    "parameter servers knows its own part only: return the result as it is, and "
                    "compute from it in a callback's logs"
                )
            check()
            metrics = [self._held.current(v) for v in self.metrics]
            state = [self._held.current(v) for v in self._state]
            self._own_now = [self._held.current(v) for v in self._fetched]
        return logs, metrics, state

    @contextlib.contextmanager
    def _updating(self, apply: Callable[..., Any] | None) -> Iterator[None]:
        """While it is open, optimizers update as parameter servers need it."""

        def intercept(
            optimizer: keras.optimizers.Optimizer, grads: Any, trainable_variables: Any = None
        ) -> None:
            if apply is None:
                raise PlugError("an optimizer was applied in test_step: only train_step may train")
            if trainable_variables is None and not optimizer.built:
                patches.original("apply")(optimizer, grads)  # raises, and says what to do
            variables = list(trainable_variables or keras_optimizers.trained_by(optimizer))
            apply(optimizer, list(grads), variables)

        def assign(optimizer: keras.optimizers.Optimizer, variable: Variable, value: Any) -> None:
            if isinstance(variable, keras.Variable) and self._is_written_once(variable):
                self._assign(variable, value)
            else:
                patches.original("optimizer_assign")(optimizer, variable, value)

        replacements: dict[str, Callable[..., Any]] = {
            "apply": intercept,
            "optimizer_assign": assign,
            **self._updates.stand_ins(),
        }
        if self._tables and apply is not None:  # clipped in `_apply_now`: Keras would densify
            replacements["clip"] = lambda _, grads: grads
        with patches.Patches(replacements):
            yield

    def _apply_now(
        self,
        optimizer: keras.optimizers.Optimizer,
        grads: list[Gradient],
        variables: list[keras.Variable],
    ) -> None:
        """Applies gradients on the servers, by the optimizer's own code."""
        for variable in variables:
            self._held.release(variable)  # what reads it after the update reads the server
        grads = self._of_tables.clip(grads, variables)
        self._updates.apply(optimizer, grads, variables, self._held)

    def _assign(self, variable: keras.Variable, value: tf.Tensor) -> None:
        """Assigns to a variable that a step does not hold."""
        self._check_assigned(variable)
        if self._is_written_once(variable):
            self._writes.assign([variable], [tf.cast(value, variable.value.dtype)])
        else:
            patches.original("assign")(variable, value)

    def _check_assigned(self, variable: keras.Variable) -> None:
        """Any may be assigned to."""

    def _is_written_once(self, variable: keras.Variable) -> bool:
        """Whether a write to a variable is to be made by its server, and is not yet."""
        is_there = "/job:ps/" in server_variables.place_of(variable)
        return is_there and not self._writes.is_within

    def _push_state(self, new: Sequence[tf.Tensor], old: Sequence[tf.Tensor]) -> None:
        """Adds to the servers what a step has changed of what is not trained."""
        changed = [
            (variable, after, before)
            for variable, after, before in zip(self._state, new, old, strict=True)
            if after is not before
        ]
        numbers = [entry for entry in changed if entry[1].dtype != tf.bool]
        flags = [entry for entry in changed if entry[1].dtype == tf.bool]
        self._writes.add(
            [v for v, _, _ in numbers], [after - before for _, after, before in numbers]
        )
        self._writes.assign([v for v, _, _ in flags], [after for _, after, _ in flags])

    # ------------------------------------------------------------ Downpour

    def _downpour(
        self, number: tf.Tensor, batch: Any, carried: Carried, metrics: Sequence[Any]
    ) -> tuple[Carried, dict[str, tf.Tensor]]:
        """A step on this worker's own copy of the weights; see the module."""
        own, base = list(carried["own"]), list(carried["base"])
        where = self._state_range

        def renew() -> tuple[list[tf.Tensor], list[tf.Tensor]]:
            fetched = self._fetch()
            # What has changed here and was not sent yet stays.
            unsent = [now - before for now, before in zip(own[where], base, strict=True)]
            state = [a + b for a, b in zip(fetched[where], unsent, strict=True)]
            return [*fetched[: where.start], *state, *fetched[where.stop :]], fetched[where]

        if self._fetch_every == 1:
            own, base = renew()
        else:
            due = tf.logical_and(number > 0, tf.equal(number % self._fetch_every, 0))
            own, base = tf.cond(due, renew, lambda: (own, base))
        pending = list(carried["pending"])

        def keep(
            optimizer: keras.optimizers.Optimizer,
            grads: list[Gradient],
            variables: list[keras.Variable],
        ) -> None:
            self._step_alone(optimizer, grads, variables, pending)

        values = [*zip(self._fetched, own, strict=True), *metrics]
        logs, now, _ = self._traced("train", batch, values, keep)
        following: Carried = {
            "metrics": now,
            "own": self._own_now,
            "base": base,
            "pending": pending,
            "count": carried["count"] + 1,
        }

        def send() -> Carried:
            self._push(following)
            return {
                **following,
                "base": following["own"][where],
                "pending": [tf.zeros_like(gradient) for gradient in pending],
                "count": tf.constant(0),
            }

        due = tf.equal((number + 1) % self._push_every, 0)
        return (send() if self._push_every == 1 else tf.cond(due, send, lambda: following)), logs

    def _step_alone(
        self,
        optimizer: keras.optimizers.Optimizer,
        grads: list[Gradient],
        variables: list[keras.Variable],
        pending: list[tf.Tensor],
    ) -> None:
        """Moves this worker's copy of the weights, and remembers the gradients."""
        if optimizer is not self.model.optimizer:
            raise PlugError(
                "fetch_every and push_every above 1 work with the optimizer of compile alone, but "
                "train_step applies another one: leave them at 1"
            )
        rate = optimizer.learning_rate if self._local_rate is None else self._local_rate
        numbers = {id(variable): i for i, variable in enumerate(self._weights)}
        tables = []
        for gradient, variable in zip(grads, variables, strict=True):
            if gradient is None:
                continue
            if id(variable) in self._tables:
                tables.append((gradient, variable))
                continue
            gradient = tf.convert_to_tensor(gradient)
            value = self._held.current(variable)
            self._held.hold(variable, value - tf.cast(rate, value.dtype) * gradient)
            i = numbers[id(variable)]
            pending[i] = pending[i] + gradient
        if tables:  # rows are few: they go at once
            self._updates.of_tables(optimizer, tables, optimizer.learning_rate, self._held)
        now = self._held.current(optimizer.iterations)
        self._held.hold(optimizer.iterations, now + 1)

    def _push(self, carried: Carried) -> tf.Tensor:
        """Applies the sum of the gradients, and adds what else has changed."""
        optimizer = self.model.optimizer
        iterations, *rest = carried["own"][self._state_range.stop :]
        clock = [iterations - tf.cast(1, iterations.dtype), *rest]  # Keras counts from the next
        with (
            keras_weights.held(
                list(zip(self._clock, clock, strict=True)), self._assign
            ) as self._held,
            self._updating(None),
        ):
            pending, weights = list(carried["pending"]), list(self._weights)
            self._updates.apply(optimizer, pending, weights, self._held, carried["count"])
        self._push_state(carried["own"][self._state_range], carried["base"])
        return tf.constant(0)


def _clock_of(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    rate = keras_optimizers.rate_variable(optimizer)
    return [optimizer.iterations, *([] if rate is None else [rate])]


def _of_step(ticket: tf.Tensor | None, number: tf.Tensor) -> tf.Tensor | None:
    """The ticket of a step of the chunk."""
    return None if ticket is None else ticket + tf.stack([0, tf.cast(number, ticket.dtype)])
