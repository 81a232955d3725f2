"""Tells a step that waits for its input from one that waits for other tasks, inside of a graph.

Steps run in one TensorFlow loop, which cannot be looked into while it runs. A variable of this
process can: the loop counts it up before it asks for a batch, and again when it has it.
"""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from tfdist.compat import tf_strategies
from tfdist.structures import T

__all__ = ["next_batch", "ready", "ticks"]


_clock: tf.Variable | None = None


def ready() -> None:
    """Makes the clock of this process, outside of any graph; before the first `next_batch`."""
    global _clock
    if _clock is None:
        with tf.init_scope(), tf_strategies.out_of_scope(), tf.device("CPU:0"):
            _clock = tf.Variable(0, dtype=tf.int64, trainable=False, name="tfdist_step_clock")


def next_batch(iterator: Iterator[T]) -> T:
    """Returns an iterator's next element, in a graph, and notes the wait where there is a clock."""
    if _clock is None:
        return next(iterator)
    one = tf.constant(1, tf.int64)
    with tf.control_dependencies([_clock.assign_add(one, read_value=False)]):
        batch = next(iterator)
    with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
        _clock.assign_add(one, read_value=False)
    return batch


def ticks() -> int:
    """How far the clock has come: odd while a batch is waited for; 0 where there is none."""
    try:
        return 0 if _clock is None else int(_clock.numpy())
    except (tf.errors.OpError, RuntimeError):  # TensorFlow is being taken down
        return 0
