"""The metrics of replicas that train in step: summed over all of them when somebody reads them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.data import fingerprint as fingerprint_of
from tfdist.training.mode import Mode
from tfdist.training.model_parts import unique
from tfdist.training.peers import packing
from tfdist.training.peers.drift import DriftCheck
from tfdist.training.replica.step_logs import Reading, StepLogs, as_plain, to_be_summed
from tfdist.training.tracing import traced

__all__ = ["MetricReduction"]


class MetricReduction:
    """Reads the metrics of one model, in one collective.

    Args:
        model: a built and compiled Keras model.
        strategy: the strategy in whose scope it was made.
        layout: the strategy's replicas.
        logs: knows which of a step's logs are results of metrics.
        drift: compares the workers' models; its numbers travel with the metrics.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        logs: StepLogs,
        drift: DriftCheck,
    ) -> None:
        self._model = model
        self._strategy = strategy
        self._layout = layout
        self._logs = logs
        self._drift = drift
        self._functions: dict[tuple[object, ...], Callable[..., Any]] = {}

    @property
    def variables(self) -> list[keras.Variable]:
        """Those of the metrics."""
        return unique(v for metric in self._model.metrics for v in metric.variables)

    def reset(self) -> None:
        """Sets every metric back, on every replica."""

        def reset() -> None:
            self._strategy.run(self._model.reset_metrics)

        key = ("reset", tuple(id(metric) for metric in self._model.metrics))
        if self._model.run_eagerly:
            reset()
            return
        if key not in self._functions:
            self._functions[key] = traced(reset)
        self._functions[key]()

    def read(
        self,
        mode: Mode,
        step_logs: dict[str, tf.Tensor],
        fingerprint: tf.Tensor | np.int64,
        numbers: Sequence[float],
        varies_with: Callable[[], set[str]] = set,
    ) -> Reading:
        """Sums the metrics over all replicas and reads them; every worker must call it together.

        Args:
            mode: "train" or "test".
            step_logs: what steps have left that is no metric: this process's part of the sum.
            fingerprint: the sum of the steps' fingerprints.
            numbers: this worker's own numbers for the others to see.
            varies_with: says what may make the workers' data differ.

        Returns:
            The logs and everybody's numbers, the same on every worker.

        Raises:
            DataError: the workers have read different data.
        """
        variables = self.variables
        marked = [*variables, *self._drift.scalars]
        key = (mode, "read", tuple(map(id, marked)), tuple(step_logs), len(numbers))
        if key not in self._functions:
            read = functools.partial(self._read, mode, variables)
            self._functions[key] = read if self._model.run_eagerly else traced(read)
        own = np.asarray([*fingerprint_of.in_floats(int(fingerprint)), *numbers], np.float32)
        logs, table = self._functions[key](step_logs, tf.constant(own))
        floats = fingerprint_of.FLOATS
        fingerprints, told, marks = np.split(table.numpy(), [floats, -floats], axis=1)
        fingerprint_of.check(fingerprints, varies_with)
        self._drift.check(marks)
        return Reading({name: as_plain(value) for name, value in logs.items()}, told)

    def _read(
        self,
        mode: Mode,
        variables: Sequence[keras.Variable],
        step_logs: dict[str, tf.Tensor],
        numbers: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        layout = self._layout
        states = [v.value for v in variables]
        numbers = tf.concat([numbers, self._drift.mark()], 0)
        table = tf.expand_dims(tf.one_hot(layout.worker, layout.workers), 1) * numbers
        shared = [table, *step_logs.values()]
        if layout.replicas > 1:

            def on_replica() -> list[tf.Tensor]:
                context = tf.distribute.get_replica_context()
                replica = context.replica_id_in_sync_group
                # What the process has once must be counted once: its first replica brings it.
                once = tf.equal(replica, layout.first)
                own = [to_be_summed(v, replica, layout.replicas) for v in variables]
                return packing.sum_over_replicas(
                    [*own, *(value * tf.cast(once, value.dtype) for value in shared)]
                )

            sums = self._strategy.run(on_replica)
            flat = [self._strategy.experimental_local_results(value)[0] for value in sums]
            states, shared = flat[: len(variables)], flat[len(variables) :]
        own = dict(zip(step_logs, shared[1:], strict=True))
        logs = self._logs.results(mode, list(zip(variables, states, strict=True)), own)
        return {name: tf.convert_to_tensor(value) for name, value in logs.items()}, shared[0]
