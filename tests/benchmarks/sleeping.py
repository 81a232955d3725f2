"""A layer that takes time on workers of parameter servers, without a core."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import layers

__all__ = ["Sleeps"]


class Sleeps(layers.Layer):
    """Takes a time for each row, which worker 0, or chance, makes longer.

    Args:
        seconds_a_row: how long.
        times: as long, where chance has it.

    Attributes:
        slower: so many times as long on worker 0, a weight.
        chance: of `times` as long on any worker, a weight from 0 to 1.
    """

    def __init__(self, seconds_a_row: float, times: float = 10.0) -> None:
        super().__init__()
        self._seconds, self._times = seconds_a_row, times

    def build(self, shape: Any) -> None:
        self.slower = self.add_weight(shape=(), initializer="ones", trainable=False)
        self.chance = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        try:
            worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        except RuntimeError:
            return x  # while Keras builds the model
        factor = tf.where(tf.equal(tf.cast(worker, tf.int32), 0), self.slower.value, 1.0)
        seed = tf.stack([tf.cast(1e6 * tf.timestamp(), tf.int64), tf.cast(worker, tf.int64)])
        drawn = tf.random.stateless_uniform([], seed)
        factor *= tf.where(drawn < self.chance.value, self._times, 1.0)
        rows = tf.cast(tf.shape(x)[0], tf.float32)
        # It sleeps before its only element, and before it finds that there is no other.
        micros = rows * factor * (1e6 * self._seconds / 2)
        one = tf.data.Dataset.from_tensors(0.0)
        variant = tf.raw_ops.SleepDataset(
            input_dataset=tf.data.experimental.to_variant(one),
            sleep_microseconds=tf.cast(micros, tf.int64),
            output_types=[tf.float32],
            output_shapes=[[]],
        )
        spec = tf.TensorSpec([], tf.float32)
        slept = tf.data.experimental.from_variant(variant, spec).reduce(0.0, lambda a, b: a + b)
        return x + slept
