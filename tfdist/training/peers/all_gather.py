"""How the workers of a synchronous job tell each other numbers."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdist.errors import DataError
from tfdist.strategies import registry, stall_watch
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Traced
from tfdist.training.peers import packing
from tfdist.training.peers.watchdog import Watchdog
from tfdist.training.tracing import traced

__all__ = ["CALLS", "AllGather"]

_ROOMS = (16, 128, 1024, 8192, 65536, 2**20, 2**24)
"""Lengths of messages between workers; few of them, as each is traced once."""

CALLS = ("fit", "evaluate", "predict", "compile")
"""The methods that every worker must call, in the same order."""

_MEETINGS = (*CALLS, "save")
"""The same, and the one that every worker must call where each has a part of what is written."""

_all_gathers: weakref.WeakKeyDictionary[tf.distribute.Strategy, AllGather] = (
    weakref.WeakKeyDictionary()
)


class AllGather:
    """Shows each worker's numbers to all.

    Args:
        strategy: of the job.
        layout: its replicas.
    """

    def __init__(self, strategy: tf.distribute.Strategy, layout: ReplicaLayout) -> None:
        self._strategy = weakref.ref(strategy)
        self._layout = layout
        self._functions: dict[int, Traced] = {}

    @classmethod
    def of(cls, strategy: tf.distribute.Strategy, layout: ReplicaLayout) -> AllGather:
        """Returns the one of a strategy: what it has traced serves all models."""
        if strategy not in _all_gathers:
            _all_gathers[strategy] = cls(strategy, layout)
        return _all_gathers[strategy]

    def all_gather(self, numbers: Sequence[float]) -> np.ndarray:
        """Shows this worker's numbers to all; every worker must call it together.

        Args:
            numbers: as many on every worker.

        Returns:
            `[workers, n]`, the same on every worker.

        Raises:
            DataError: another worker begins a call.
        """
        return self._told(0, numbers)

    def meet(self, call: str) -> None:
        """Waits for all workers to begin a call.

        Args:
            call: one of `CALLS`, or "save".

        Raises:
            DataError: another worker begins another one, or is in the middle of one.
        """
        touch = registry.touch()

        def who_is_missing() -> str:
            missing = "not known" if touch is None else ", ".join(touch.not_here_yet()) or "none"
            return f"of the workers that must call it too, these have not: {missing}"

        if touch is not None:
            touch.begin_call()
        with Watchdog(f"{self._layout.task} has called {call}", why=who_is_missing):
            self._told(1 + _MEETINGS.index(call), [])

    def _told(self, call: int, numbers: Sequence[float]) -> np.ndarray:
        if self._layout.workers == 1:
            return np.asarray([numbers], np.float64)
        room = next(size for size in _ROOMS if size > len(numbers))
        own = np.zeros(room, np.float64)
        own[: len(numbers) + 1] = [call, *numbers]
        if room not in self._functions:
            self._functions[room] = traced(self._table)
        with stall_watch.meeting():
            table = self._functions[room](tf.constant(own)).numpy()
        if (table[:, 0] != table[0, 0]).any():
            raise DataError(_different_calls(table[:, 0]))
        return table[:, 1 : len(numbers) + 1]

    def _table(self, own: tf.Tensor) -> tf.Tensor:
        layout, strategy = self._layout, self._strategy()
        assert strategy is not None

        def on_replica() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            once = tf.cast(tf.equal(context.replica_id_in_sync_group, layout.first), own.dtype)
            here = tf.one_hot(layout.worker, layout.workers, dtype=own.dtype)
            return packing.sum_over_replicas([tf.expand_dims(here, 1) * own * once])[0]

        return strategy.experimental_local_results(strategy.run(on_replica))[0]


def _different_calls(calls: Sequence[float]) -> str:
    names = ["is in the middle of a call", *(f"calls {call}" for call in _MEETINGS)]
    told = ", ".join(f"worker {i} {names[int(call)]}" for i, call in enumerate(calls))
    if 1 + _MEETINGS.index("save") in {int(call) for call in calls}:
        return (
            f"the workers do different things at the same time ({told}): with shard_optimizer each "
            "has a share of what a file holds, so every worker must call save, as all call fit"
        )
    return (
        f"the workers do different things at the same time ({told}): every worker must call "
        f"{', '.join(CALLS[:-1])} and {CALLS[-1]} in the same order, as often as the others; only "
        "printing and writing files are the chief's alone"
    )
