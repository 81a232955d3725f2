"""How many steps of others each update has missed, counted where updates are made."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

__all__ = ["StalenessCount"]

_MOST = 1023
"""What is counted by itself; more counts as this."""


class StalenessCount:
    """A histogram on a parameter server."""

    def __init__(self) -> None:
        self._counts: tf.Variable | None = None
        self._before: np.ndarray = np.zeros(_MOST + 1, np.int64)

    def note(self, place: str, missed: tf.Tensor) -> None:
        """Counts an update, while a step is traced.

        Args:
            place: the server that makes it.
            missed: how many others it has made since the weights were read, an integer scalar.
        """
        if self._counts is None:
            with tf.init_scope(), tf.device(place):
                self._counts = tf.Variable(tf.zeros([_MOST + 1], tf.int64), trainable=False)
        with tf.device(place):
            bucket = tf.clip_by_value(tf.cast(missed, tf.int64), 0, _MOST)
            tf.raw_ops.ResourceScatterAdd(
                resource=self._counts.handle, indices=bucket, updates=tf.constant(1, tf.int64)
            )

    def begin(self) -> None:
        """Begins to count anew."""
        self._before = self._total()

    @property
    def histogram(self) -> np.ndarray:
        """How many updates have missed 0, 1, 2, ... others since `begin`: int64 of shape (1024,).

        The last counts those that have missed more, too.
        """
        return self._total() - self._before

    def logs(self) -> dict[str, float]:
        """The mean and the largest, since `begin`; none before the first update."""
        counts = self.histogram
        if not counts.any():
            return {}
        return {
            "staleness_mean": float(np.average(np.arange(len(counts)), weights=counts)),
            "staleness_max": float(np.flatnonzero(counts)[-1]),
        }

    def describe(self) -> str:
        """Says the histogram, in ranges that double; "" before the first update.

        Example:
            >>> count.describe()
            'of 160 updates 151 have missed no other, 8 one, 1 32 to 63'
        """
        counts = self.histogram
        parts, low = [], 1
        while low <= _MOST:
            if found := int(counts[low : 2 * low].sum()):
                words = "one" if low == 1 else f"{low} to {2 * low - 1}"
                parts.append(f"{found} {words if 2 * low <= _MOST else f'{low} or more'}")
            low *= 2
        total = int(counts.sum())
        told = ", ".join([f"{int(counts[0])} have missed no other", *parts])
        return f"of {total} updates {told}" if total else ""

    def _total(self) -> np.ndarray:
        if self._counts is None:
            return np.zeros(_MOST + 1, np.int64)
        found: np.ndarray = self._counts.read_value().numpy()
        return found
