"""How the workers of a synchronous job tell each other numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdist.strategies.layout import ReplicaLayout
from tfdist.training import packing

__all__ = ["Teller"]

_ROOMS = (16, 128, 1024, 8192, 65536, 2**20, 2**24)
"""Lengths of messages between workers; few of them, as each is traced once."""


class Teller:
    """Shows each worker's numbers to all.

    Args:
        strategy: of the job.
        layout: its replicas.
    """

    def __init__(self, strategy: tf.distribute.Strategy, layout: ReplicaLayout) -> None:
        self._strategy = strategy
        self._layout = layout
        self._functions: dict[int, Callable[..., Any]] = {}

    def tell(self, numbers: Sequence[float]) -> np.ndarray:
        """Shows this worker's numbers to all; every worker must call it together.

        Args:
            numbers: as many on every worker.

        Returns:
            `[workers, n]`, the same on every worker.
        """
        if self._layout.workers == 1:
            return np.asarray([numbers], np.float64)
        room = next(size for size in _ROOMS if size >= len(numbers))
        own = np.zeros(room, np.float64)
        own[: len(numbers)] = numbers
        if room not in self._functions:
            self._functions[room] = tf.function(self._table, autograph=False)
        table = self._functions[room](tf.constant(own)).numpy()
        return table[:, : len(numbers)]

    def _table(self, own: tf.Tensor) -> tf.Tensor:
        layout = self._layout

        def on_replica() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            once = tf.cast(tf.equal(context.replica_id_in_sync_group, layout.first), own.dtype)
            here = tf.one_hot(layout.worker, layout.workers, dtype=own.dtype)
            return packing.sum_over_replicas([tf.expand_dims(here, 1) * own * once])[0]

        return self._strategy.experimental_local_results(self._strategy.run(on_replica))[0]
