"""A part of an update as a worker computes it, and the update that the servers make of all parts.

A whole batch is one update, as in one process. Each part's gradients are those of its own mean
loss, times its share of the rows; they wait on the servers (`part_buffers`), and once all parts are
there the optimizer's own code is run on their sums, next to the variables: clipping and the like
see the gradients of the whole batch. What a step changes of what is not trained (moving statistics)
is added up alike; numbers that count steps are those of the first part. Dropout and the like draw
other numbers in each part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat import keras_build, keras_weights
from tfdist.compat.tf_random import drawing_operations
from tfdist.errors import PlugError
from tfdist.strategies import server_variables
from tfdist.strategies.server_variables import place_of
from tfdist.structures import Gradient, Traced
from tfdist.training.parameter_server.batch_messages import key_of
from tfdist.training.parameter_server.optimizer_updates import OptimizerUpdates
from tfdist.training.parameter_server.part_buffers import PartBuffers, UpdatesInPlace
from tfdist.training.parameter_server.worker_step import WorkerStep
from tfdist.training.replica.part_losses import Totals, is_sum, part_of_batch
from tfdist.training.tracing import traced

__all__ = ["PartPrograms", "PartStep"]

_DRAWS = 1 << 24  # of a part, before it comes to those of the next


class PartStep(WorkerStep):
    """Traces the parts of a model's updates, and the updates.

    Args:
        buffers: where parts wait.
        arguments: of `WorkerStep`.
    """

    def __init__(self, buffers: PartBuffers, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._buffers = buffers
        self._in_place = UpdatesInPlace()
        self._updates = OptimizerUpdates(self._in_place, self._of_tables)
        self._optimizer: keras.optimizers.Optimizer | None = None
        self._trained: list[keras.Variable] = []
        self._without: list[keras.Variable] = []
        self._moved: list[keras.Variable] = []
        self._counted: list[keras.Variable] = []
        held = {id(variable) for variable in self._state}
        self._state += [one for one in keras_build.global_seeds() if id(one) not in held]
        first = len(self._weights)
        self._state_range = slice(first, first + len(self._state))

    # ------------------------------------------------------------ a part, on a worker

    def compute(
        self, batch: Any, share: tf.Tensor, ticket: tf.Tensor
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """Computes a part, and has it wait on the servers.

        Args:
            batch: its rows, as `train_step` takes them.
            share: of the whole batch's rows, a float64 scalar.
            ticket: its number in the update, and the update's, int64 of shape (2,).

        Returns:
            The metrics' variables, from rest on, and the logs that are no metrics.

        Raises:
            PlugError: `train_step` does not apply one optimizer once, or reads what that changes.
        """
        self._writes.begin(ticket)
        kept: list[Any] = []
        outdated: dict[int, tf.Tensor] = {}

        def keep(
            optimizer: keras.optimizers.Optimizer,
            gradients: list[Gradient | None],
            variables: list[keras.Variable],
        ) -> None:
            self._check_as_fetched(before)
            if kept:
                raise PlugError(
                    "train_step applies gradients twice (a GAN's?), but with backup_workers a step "
                    "is one update, made after the step: leave backup_workers out"
                )
            kept.append((optimizer, gradients, variables))
            for variable in variables:
                if not self._held.has(variable):
                    raise PlugError(
                        f"train_step trains {variable.path!r}, which is none of the model's "
                        "weights: give the model the layer that has it, or leave "
                        "backup_workers out"
                    )
            for variable in [*variables, *self._clock]:
                outdated[id(variable)] = tf.identity(self._held.current(variable))
                self._held.hold(variable, outdated[id(variable)])
            before.update(outdated)

        fetched = self._fetch()
        rest = [tf.constant(value) for value in self._rest]
        drawn = [
            _of_part(v, value, ticket[0]) for v, value in zip(self._fetched, fetched, strict=True)
        ]
        values = list(zip([*self._fetched, *self.metrics], [*drawn, *rest], strict=True))
        before = {id(v): value for v, value in values}
        rows = [one for one in tf.nest.flatten(batch) if isinstance(one, tf.Tensor)]
        with part_of_batch(share, Totals(known=False), [one for one in rows if one.shape.rank]):
            logs, now, state = self._traced(
                "train", batch, values, keep, lambda: self._check_as_fetched(before)
            )
            sums = [name for name, value in logs.items() if is_sum(value)]
        if not kept:
            raise PlugError(
                "train_step applies no optimizer, but with backup_workers a step is one update of "
                "an optimizer: leave backup_workers out"
            )
        told = [*logs.values()]
        if any(old.consumers() or any(old is one for one in told) for old in outdated.values()):
            raise PlugError(
                "train_step reads weights or the optimizer's iterations after it has applied "
                "gradients, but with backup_workers the update is made after the step: leave "
                "backup_workers out, or read them before"
            )
        optimizer, gradients, variables = kept[0]
        if sums:
            raise PlugError(
                f"the log {sums[0]!r} is a sum over rows, but the logs of the parts of a batch "
                "are averaged: give a mean over them (tf.reduce_mean), or track it with a "
                "keras.metrics.Sum of one value a row"
            )
        tensors = self._gradients(optimizer, gradients, variables, share)
        tensors += self._changes(state, drawn[self._state_range], share)
        self._buffers.put(ticket[0], tensors, [*self._trained, *self._moved, *self._counted])
        return now, logs

    def _check_as_fetched(self, values: Mapping[int, tf.Tensor]) -> None:
        """Checks that a step has assigned to nothing that the update will change."""
        for variable in [*self._weights, *self._clock]:
            if self._held.current(variable) is not values[id(variable)]:
                raise PlugError(
                    f"train_step, or a layer, assigns to {variable.path!r}, which is trained, or "
                    "counts updates, but with backup_workers that is changed by the update alone: "
                    "do it in a callback, or leave backup_workers out"
                )

    def _gradients(
        self,
        optimizer: keras.optimizers.Optimizer,
        gradients: Sequence[Gradient | None],
        variables: Sequence[keras.Variable],
        share: tf.Tensor,
    ) -> list[Gradient]:
        pairs = list(zip(gradients, variables, strict=True))
        self._optimizer = optimizer
        self._trained = [v for gradient, v in pairs if gradient is not None]
        self._without = [v for gradient, v in pairs if gradient is None]
        return [_weighted(gradient, share) for gradient, _ in pairs if gradient is not None]

    def _changes(
        self, new: Sequence[tf.Tensor], old: Sequence[tf.Tensor], share: tf.Tensor
    ) -> list[tf.Tensor]:
        """What a part has changed of what is not trained; of what counts, the new value."""
        changed = [
            (variable, after, before)
            for variable, after, before in zip(self._state, new, old, strict=True)
            if after is not before
        ]
        moved: list[Any] = []
        counted: list[Any] = []
        for one in changed:
            adds_up = one[0].aggregation == "sum" or one[1].dtype.is_floating
            (moved if adds_up else counted).append(one)
        self._moved = [variable for variable, _, _ in moved]
        self._counted = [variable for variable, _, _ in counted]
        parts = [
            after - before
            if variable.aggregation == "sum"
            else (after - before) * tf.cast(share, after.dtype)
            for variable, after, before in moved
        ]
        return parts + [after for _, after, _ in counted]

    def _check_assigned(self, variable: keras.Variable) -> None:
        """Checks that a variable which a step does not hold is assigned to in the update alone."""
        if self._writes is not self._in_place:
            raise PlugError(
                f"train_step assigns to {variable.path!r}, which the model does not hold, so that "
                "each part of a batch would: give it to a layer of the model to hold, or leave "
                "backup_workers out"
            )

    # ------------------------------------------------------------ the update, by the chief

    def update(self, parts: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """Has the servers make the update of all parts.

        Args:
            parts: how many there are, an int32 scalar.
            number: the update's, an int64 scalar; copies of its parts that come late are not taken.
        """
        optimizer, of_parts = self._optimizer, self._writes
        assert optimizer is not None, "no part was traced"
        self._writes = self._in_place
        try:
            with tf.control_dependencies(of_parts.close(number)):
                self._make_update(optimizer, parts)
        finally:
            self._writes = of_parts
        return tf.constant(0)

    def _make_update(self, optimizer: keras.optimizers.Optimizer, parts: tf.Tensor) -> None:
        with tf.device(place_of(optimizer.iterations)):  # what clips sees all gradients
            summed = self._buffers.sums(self._trained, parts)
            moved = self._buffers.sums(self._moved, parts)
            counted = self._buffers.first(self._counted)
            clock = zip(self._clock, server_variables.fetch(self._clock), strict=True)
            with keras_weights.held(list(clock), self._assign) as self._held, self._updating(None):
                gradients = [*summed, *(None for _ in self._without)]
                variables = [*self._trained, *self._without]
                self._updates.apply(optimizer, gradients, variables, self._held)
            self._in_place.add(self._moved, moved)
            self._in_place.assign(self._counted, counted)


def _weighted(gradient: Gradient, share: tf.Tensor) -> Gradient:
    factor = tf.cast(share, gradient.dtype)
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.convert_to_tensor(gradient) * factor
    return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)


def _of_part(variable: keras.Variable, value: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """The value that a part begins with: its random numbers are none of another part's."""
    if variable.name != "seed_generator_state":
        return value
    seed, count = tf.unstack(tf.cast(value, tf.int64))
    count = tf.bitwise.bitwise_and(count + part * _DRAWS, tf.constant(0xFFFFFFFF, tf.int64))
    return tf.cast(tf.stack([seed, count]), value.dtype)


class PartPrograms:
    """Writes the programs of parts, once for each type of data, and of updates.

    Args:
        step: what they are of.
    """

    def __init__(self, step: PartStep) -> None:
        self._step = step
        self._functions: dict[Any, Any] = {}
        self._update: Traced | None = None

    def part(self, specs: Sequence[Any]) -> Any:
        """The function that computes a part.

        Args:
            specs: the types of its arguments: the rows, their share, the ticket (see
                `PartStep.compute`), and for each worker whether it is left out.
        """
        key = key_of(specs)
        if key not in self._functions:
            _, results = self._trace(specs, None)
            self._functions[key], _ = self._trace(specs, results)
        return self._functions[key]

    def update(self, parts: int, number: int) -> None:
        """Makes the update of this number, of so many parts, which are all there."""
        if self._update is None:
            self._update = traced(self._step.update)
        self._update(tf.constant(parts), tf.constant(number, tf.int64))

    def _trace(
        self, specs: Sequence[Any], known: Sequence[tf.TensorSpec] | None
    ) -> tuple[Any, list[tf.TensorSpec]]:
        """Traces a part's function; returns it, and the types of what `compute` has found.

        Args:
            specs: as in `part`.
            known: these types; None where nobody knows them, for a function that nobody declines.
        """
        names: list[str] = []
        types: list[tf.TensorSpec] = []

        def computed(batch: Any, share: tf.Tensor, ticket: tf.Tensor) -> list[tf.Tensor]:
            metrics, logs = self._step.compute(batch, share, ticket)
            names[:] = logs
            found = [*(tf.cast(value, tf.float64) for value in metrics), *logs.values()]
            types[:] = [tf.TensorSpec(one.shape, one.dtype) for one in found]
            return found

        def run(
            batch: Any, share: tf.Tensor, ticket: tf.Tensor, left_out: tf.Tensor
        ) -> dict[str, Any]:
            began = tf.timestamp()
            worker = tf.distribute.coordinator.experimental_get_current_worker_index()
            declines = tf.gather(left_out, worker)
            if known is not None:
                # A loop of no step or one, not a condition, in which TensorFlow does not find the
                # number of the worker, should the model ask for it.
                nothing = [tf.zeros([n or 0 for n in s.shape], s.dtype) for s in known]
                found = tf.while_loop(
                    lambda more, *_: more,
                    lambda *_: [tf.constant(False), *computed(batch, share, ticket)],
                    [tf.logical_not(declines), *nothing],
                    [tf.TensorShape([]), *(spec.shape for spec in known)],
                )[1:]
            else:
                found = computed(batch, share, ticket)
            with tf.control_dependencies(found):
                seconds = tf.timestamp() - began
            count = len(found) - len(names)
            told = [tf.cast(one, tf.float64) for one in (worker, declines, seconds)]
            flat = [tf.reshape(one, [-1]) for one in found[:count]]
            return {
                "told": tf.concat([told, *flat], 0),  # one message: each costs a millisecond
                "logs": dict(zip(names, found[count:], strict=True)),
            }

        concrete = traced(run).get_concrete_function(*specs)
        _check_draws(concrete.graph)
        return concrete, types


def _check_draws(graph: Any) -> None:
    """Checks that a part that is computed twice draws the same numbers.

    Raises:
        PlugError: it may not.
    """
    for operation in drawing_operations(graph):
        if not operation.startswith("Stateless"):
            raise PlugError(
                f"the model draws random numbers by tf.random ({operation}), which are other ones "
                "each time, but a part of a batch may be computed twice: use keras.random or "
                "tf.random.stateless_..., or leave backup_workers out"
            )
