"""The metrics of a parameter-server job: the exact sum of what its workers have counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.training.replica import replica_states

__all__ = ["MetricTotals"]


class MetricTotals:
    """Adds up metrics' variables, on the chief, in float64.

    Each worker counts from the metrics' state at rest, so what it adds is what it has counted
    beyond that. Asynchronous writes to shared variables would lose some of it.

    Args:
        variables: of the metrics, at rest now (after `reset_metrics`).
    """

    def __init__(self, variables: Sequence[keras.Variable]) -> None:
        self.variables = list(variables)
        self.rest = [variable.numpy() for variable in self.variables]
        self.reset()

    def reset(self) -> None:
        """Begins anew."""
        self._sums = [np.zeros(value.shape, np.float64) for value in self.rest]
        self._last = [np.asarray(value, np.float64) for value in self.rest]
        self._chunks = 0

    def go_on_from(self, states: Sequence[np.ndarray]) -> None:
        """Begins with what another run has counted.

        Args:
            states: the variables' values over all workers, as `states` has returned them.

        Raises:
            CheckpointError: they are of other metrics.
        """
        replica_states.check_shapes(states, self.rest)
        self.reset()
        self.add(states)

    def add(self, states: Sequence[Any]) -> None:
        """Adds what one chunk of steps has left in the variables, from rest on."""
        self._chunks += 1
        self._last = [np.asarray(state, np.float64) for state in states]
        self._sums = [
            total + (state - rest)
            for total, state, rest in zip(self._sums, self._last, self.rest, strict=True)
        ]

    def add_flat(self, numbers: np.ndarray) -> None:
        """Adds what a chunk has left, all variables' numbers one behind the other."""
        ends = np.cumsum([value.size for value in self.rest])
        flat = np.split(numbers, ends[:-1])
        self.add([n.reshape(r.shape) for n, r in zip(flat, self.rest, strict=False)])

    def states(self) -> list[tuple[keras.Variable, tf.Tensor]]:
        """The variables and their values over all workers, as their `aggregation` says."""
        return [
            (variable, tf.constant(self._total(i), variable.value.dtype))
            for i, variable in enumerate(self.variables)
        ]

    def _total(self, i: int) -> np.ndarray:
        aggregation = self.variables[i].aggregation
        if aggregation == "sum":
            return self.rest[i] + self._sums[i]
        if aggregation == "mean":
            return self.rest[i] + self._sums[i] / max(1, self._chunks)
        return self._last[i]

    def store(self) -> None:
        """Writes the values where the model's user may look for them."""
        for variable, value in self.states():
            variable.assign(value)
