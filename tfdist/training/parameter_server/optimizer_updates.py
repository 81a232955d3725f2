"""Optimizers on parameter servers: their own code, next to the variables, each update once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat import keras_optimizers, keras_weights, patches
from tfdist.strategies.server_variables import place_of
from tfdist.structures import Gradient
from tfdist.training.embeddings.embedding_tables import EmbeddingTables
from tfdist.training.embeddings.sparse_rules import counts_apart
from tfdist.training.parameter_server.server_updates import ServerUpdates, by_server
from tfdist.training.parameter_server.staleness_count import StalenessCount

__all__ = ["OptimizerUpdates"]

Pairs = Sequence[tuple[Gradient, keras.Variable]]


class OptimizerUpdates:
    """Applies optimizers while a worker's step is traced.

    Args:
        writes: to the servers.
        tables: the sharded embeddings.
        staleness: counts what updates have missed; None where nobody asks.
    """

    def __init__(
        self,
        writes: ServerUpdates,
        tables: EmbeddingTables,
        staleness: StalenessCount | None = None,
    ) -> None:
        self._writes = writes
        self._staleness = staleness
        self._of_tables = tables
        self._tables = {id(variable) for variable in tables.variables}
        self._held: Any = None
        self._steps: int | tf.Tensor | None = None
        self._decayed: list[keras.Variable] = []

    def apply(
        self,
        optimizer: keras.optimizers.Optimizer,
        gradients: Sequence[Gradient | None],
        variables: Sequence[keras.Variable],
        held: Any,
        steps: int | tf.Tensor = 1,
    ) -> None:
        """Applies gradients on the servers, and counts the steps.

        Args:
            optimizer: of Keras.
            gradients: one a variable.
            variables: what the optimizer was built for, or some of it.
            held: what the step holds, the optimizer's `iterations` among it.
            steps: how many these gradients are of.
        """
        self._held, self._steps = held, steps
        patches.original("apply")(optimizer, gradients, variables)
        if self._steps is not None:
            self._write(optimizer, [])  # no variable had a gradient

    def stand_ins(self) -> dict[str, Callable[..., None]]:
        """What stands in for Keras' own functions meanwhile, by names of `patches.POINTS`."""

        def weight_decay(
            optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
        ) -> None:
            # Keras calls it just before the update, with which it is made.
            self._decayed = [] if optimizer.weight_decay is None else list(variables)

        def update_step(
            optimizer: keras.optimizers.Optimizer, gradients: Any, variables: Any, rate: Any
        ) -> None:
            self._write(optimizer, list(zip(gradients, variables, strict=True)), rate)

        return {"weight_decay": weight_decay, "update_step": update_step}

    def of_tables(
        self,
        optimizer: keras.optimizers.Optimizer,
        pairs: Pairs,
        learning_rate: tf.Tensor,
        held: Any,
    ) -> None:
        """Updates shards of tables alone, where the steps are counted later."""
        self._held, self._steps = held, None
        self._write(optimizer, pairs, learning_rate)

    def _write(
        self,
        optimizer: keras.optimizers.Optimizer,
        pairs: Pairs,
        learning_rate: float | tf.Tensor = 0.0,
    ) -> None:
        """Sends gradients, and what updates read beside them, and has the servers do the rest."""
        sparse = self._of_tables.ready([p for p in pairs if id(p[1]) in self._tables])
        apart = counts_apart(optimizer)
        dense = [
            (g if apart else tf.convert_to_tensor(g), v)
            for g, v in pairs
            if id(v) not in self._tables
        ]
        steps, self._steps = self._steps, None
        decayed, self._decayed = self._decayed, []
        shared = keras_optimizers.read_by_updates(optimizer)
        read = [tf.convert_to_tensor(variable) for variable in shared]
        common = [*read, tf.convert_to_tensor(learning_rate)]
        if isinstance(steps, tf.Tensor):
            common.append(steps)
        count = optimizer.iterations
        now = self._held.current(count)
        counted = steps is not None and self._held.has(count)
        if self._staleness is not None:
            common.append(now)
        self._held.release(count)
        own = by_server([*sparse, *dense])
        first = [place_of(v) for v in ([count] if counted else [])]
        places = dict.fromkeys([*own, *map(place_of, decayed), *first])

        def update(place: str, there: list[Gradient]) -> None:
            mine = own.get(place, [])
            values = there[len(mine) :]
            arrived = [(g, v) for g, (_, v) in zip(there, mine, strict=False)]
            with keras_weights.held(list(zip(shared, values, strict=False))):
                _decay(optimizer, [v for v in decayed if place_of(v) == place])
                rate = values[len(shared)]
                tables = [pair for pair in arrived if id(pair[1]) in self._tables]
                if tables:
                    self._of_tables.update(optimizer, tables, rate)
                for gradient, variable in arrived:
                    if id(variable) not in self._tables:
                        optimizer.update_step(gradient, variable.value, rate)
            if counted and place in first:
                if self._staleness is not None:
                    self._staleness.note(place, count.value - values[-1])
                # Keras would write what it has read, and lose what others count.
                amount = values[len(shared) + 1] if isinstance(steps, tf.Tensor) else steps
                count.value.assign_add(tf.cast(amount, count.value.dtype))

        alike = [(tensor, None) for tensor in common]
        self._writes.write({place: [*own.get(place, []), *alike] for place in places}, update)
        self._held.hold(count, now)


def _decay(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Keras' weight decay, computed where the variables are."""
    for variable in variables:
        # The name of TensorFlow's variable is the path, by which Keras' optimizers know it.
        if keras_optimizers.decays(optimizer, variable.value):
            value = variable.value
            rate = tf.cast(optimizer.learning_rate, value.dtype)
            value.assign_sub(value * tf.cast(optimizer.weight_decay, value.dtype) * rate)
