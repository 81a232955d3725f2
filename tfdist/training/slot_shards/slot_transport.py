"""Numbers of many arrays shown to all workers, a few MB at a time, between two steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfdist.compat import tf_collectives
from tfdist.strategies import stall_watch
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Traced
from tfdist.training.tracing import traced

__all__ = ["SlotTransport"]

_NUMBERS = 1 << 20
"""Of one message of a worker: so a worker holds no more of what it need not keep."""

Take = Callable[[int, int, np.ndarray], None]


class SlotTransport:
    """Shows the workers' arrays to all.

    Args:
        strategy: with one replica in each of several processes.
        layout: these.
    """

    def __init__(self, strategy: tf.distribute.Strategy, layout: ReplicaLayout) -> None:
        self._strategy = strategy
        self._layout = layout
        self._functions: dict[tuple[np.dtype, int], Traced] = {}

    def show(
        self,
        arrays: Sequence[Callable[[], np.ndarray]],
        sizes: Sequence[int],
        dtype: np.dtype,
        take: Take,
    ) -> None:
        """Shows flat arrays of one type to all; every worker must call it together.

        Args:
            arrays: make this worker's, one after the other.
            sizes: how many numbers they have, the same on every worker.
            dtype: of them all.
            take: is given the number of an array, a place in it, and what all workers have from
                there on, `[workers, n]`.
        """
        total = sum(sizes)
        length = min(total, _NUMBERS)
        buffer = np.zeros(length, dtype)
        there: list[tuple[int, int, int, int]] = []
        filled = 0

        def send() -> None:
            nonlocal filled
            table = self._table(buffer)
            for array, place, start, stop in there:
                take(array, place, table[:, start:stop])
            there.clear()
            filled = 0

        for number, (make, size) in enumerate(zip(arrays, sizes, strict=True)):
            flat = make() if size else np.zeros(0, dtype)
            for place, count in _parts(size, length, filled):
                buffer[filled : filled + count] = flat[place : place + count]
                there.append((number, place, filled, filled + count))
                filled += count
                if filled == length:
                    send()
        if there:
            send()

    def _table(self, own: np.ndarray) -> np.ndarray:
        key = own.dtype, len(own)
        if key not in self._functions:
            self._functions[key] = traced(self._gathered)
        with stall_watch.meeting():
            tf_collectives.learn_order(self._strategy, self._layout.first)
            table: np.ndarray = self._functions[key](tf.constant(own)).numpy()
        return table

    def _gathered(self, own: tf.Tensor) -> tf.Tensor:
        strategy = self._strategy
        run = strategy.run(lambda: tf_collectives.gather(strategy, own))
        found = strategy.experimental_local_results(run)[0]
        return tf.reshape(found, [self._layout.workers, own.shape[0]])


def _parts(size: int, length: int, filled: int) -> Iterator[tuple[int, int]]:
    """Cuts an array where messages of a length end, the first of which is filled so far already."""
    place = 0
    while place < size:
        count = min(size - place, length - filled)
        yield place, count
        place += count
        filled = (filled + count) % length
