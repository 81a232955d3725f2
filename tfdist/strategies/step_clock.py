"""Tells a step that waits for its input from one that waits for other tasks, inside of a graph.

Steps run in one TensorFlow loop, which cannot be looked into while it runs. Variables of this
process can: the loop counts one up before it asks for a batch, and again when it has it, and adds
up in others how long that took, and how long it has waited for sums over the replicas alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from tfdist.compat import tf_strategies
from tfdist.structures import Nest, T

__all__ = [
    "exchanged",
    "is_running",
    "next_batch",
    "ready",
    "rest",
    "seconds",
    "separates",
    "summed",
    "ticks",
]


@dataclass
class _Clock:
    """The variables of this process.

    Attributes:
        ticks: odd while a batch is waited for.
        input: seconds that batches were waited for; while one is, less the time it began.
        exchange: seconds in which steps have waited for sums alone; None where nothing tells.
    """

    ticks: tf.Variable
    input: tf.Variable
    exchange: tf.Variable | None = None


_clock: _Clock | None = None


def ready(*, exchanges: bool) -> None:
    """Makes the clock of this process, outside of any graph; before the first `next_batch`.

    Args:
        exchanges: whether steps of one replica run here, on a CPU, of a job of several workers:
            only then does the moment in which an operation ends say when its result is there.
    """
    global _clock
    if _clock is not None and (_clock.exchange is not None or not exchanges):
        return
    with tf.init_scope(), tf_strategies.out_of_scope(), tf.device("CPU:0"):
        _clock = _clock or _Clock(
            tf.Variable(0, dtype=tf.int64, trainable=False, name="tfdist_step_clock"),
            _seconds("tfdist_input_seconds"),
        )
        _clock.exchange = _seconds("tfdist_exchange_seconds") if exchanges else None


def is_running() -> bool:
    """Whether there is a clock."""
    return _clock is not None


def separates() -> bool:
    """Whether the time for the exchange is told from that for computing."""
    return _clock is not None and _clock.exchange is not None


def next_batch(iterator: Iterator[T]) -> T:
    """Returns an iterator's next element, in a graph, and notes the wait where there is a clock."""
    if _clock is None:
        return next(iterator)
    one = tf.constant(1, tf.int64)
    begins = [_clock.ticks.assign_add(one, read_value=False), _add(_clock.input, -_now())]
    with tf.control_dependencies(begins):
        batch = next(iterator)
    with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
        _clock.ticks.assign_add(one, read_value=False)
        _add(_clock.input, _now())
    return batch


def exchanged(values: Nest) -> tf.Tensor | None:
    """Notes that this replica has all of what is to be summed; None where nobody asks.

    What others have of a sum before that, the exchange overlaps with computing: it is no waiting.
    """
    if _clock is None or _clock.exchange is None:
        return None
    with tf.control_dependencies(tf.nest.flatten(values, expand_composites=True)):
        return _now()


def summed(began: tf.Tensor | None, values: Nest) -> None:
    """Notes that the sums are there.

    Args:
        began: what `exchanged` has returned of their parts.
        values: the sums.
    """
    if began is None or _clock is None or _clock.exchange is None:
        return
    with tf.control_dependencies(tf.nest.flatten(values, expand_composites=True)):
        _add(_clock.exchange, _now() - began)


def ticks() -> int:
    """How far the clock has come: odd while a batch is waited for; 0 where there is none."""
    try:
        return 0 if _clock is None else int(_clock.ticks.numpy())
    except (tf.errors.OpError, RuntimeError):  # TensorFlow is being taken down
        return 0


def rest() -> None:
    """Brings the clock to rest while no graph runs: an error may have left a batch waited for."""
    if _clock is not None and ticks() % 2:
        _clock.ticks.assign_add(1)
        _clock.input.assign_add(time.time())


def seconds() -> tuple[float, float]:
    """How long graphs have waited until now for batches, and for sums over the replicas alone."""
    if _clock is None:
        return 0.0, 0.0
    try:
        waited = float(_clock.input.numpy())
        summing = 0.0 if _clock.exchange is None else float(_clock.exchange.numpy())
    except (tf.errors.OpError, RuntimeError):  # TensorFlow is being taken down
        return 0.0, 0.0
    return waited if waited >= 0 else waited + time.time(), summing


def _seconds(name: str) -> tf.Variable:
    return tf.Variable(0.0, dtype=tf.float64, trainable=False, name=name)


def _now() -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.timestamp()


def _add(variable: tf.Variable, amount: tf.Tensor) -> tf.Operation:
    return variable.assign_add(amount, read_value=False)
