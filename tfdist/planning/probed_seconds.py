"""What a probe times by itself: one row more of a step, and the optimizers' updates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from tfdist.compat import keras_optimizers
from tfdist.structures import Gradient
from tfdist.training.model_parts import optimizers_of

if TYPE_CHECKING:
    from tfdist.training.loop.family import Family

__all__ = ["seconds_a_row", "update_seconds"]

_TIMES = 5
_UPDATES = 3


def seconds_a_row(
    family: Family, few: Callable[[], None], all_rows: Callable[[], None], more: int
) -> float:
    """What one row more of a step takes, by the medians of some steps of each kind, by turns.

    Args:
        family: of one worker; of several it is 0, as nobody asks these.
        few: takes a step of next to no rows, of a program that is traced.
        all_rows: takes one of all.
        more: rows that the second has more; none where the batch is so small.
    """
    if family.layout.workers > 1 or more < 1:
        return 0.0
    pairs = [(_seconds(few), _seconds(all_rows)) for _ in range(_TIMES)]
    less, all_of_them = (statistics.median(times) for times in zip(*pairs, strict=True))
    return max(0.0, all_of_them - less) / more


def _seconds(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def update_seconds(family: Family, rows: Mapping[str, int], *, dense: bool) -> float:
    """Seconds that the optimizers take for one update of all weights, by gradients of 0.

    It changes the weights, by momentum and decay: to be called when nobody needs them any more.

    Args:
        family: of one worker.
        rows: of the tables that get gradients of so many rows, by the path of their variable.
        dense: leaves these tables out.
    """
    each = []
    for optimizer in optimizers_of(family.model):
        if optimizer.built:
            own = keras_optimizers.trained_by(optimizer)
            own = [v for v in own if not (dense and v.path in rows)]
            each.append((optimizer, own))
    each = [(optimizer, own) for optimizer, own in each if own]
    if not each or family.layout.workers > 1:
        return 0.0

    def update() -> None:
        for optimizer, own in each:
            optimizer.apply([_nothing(v, rows.get(v.path)) for v in own], own)

    @tf.function(autograph=False)
    def loop(times: tf.Tensor) -> tf.Tensor:
        def body(i: tf.Tensor) -> tuple[tf.Tensor]:
            with tf.control_dependencies([i]):
                family.strategy.run(update)
            return (i + 1,)

        tf.while_loop(lambda i: i < times, body, (tf.constant(0),), parallel_iterations=1)
        return _one_of_each([v for _, own in each for v in own])

    with family.strategy.scope():
        loop(tf.constant(2))
        times = []
        for _ in range(_TIMES):
            began = time.perf_counter()
            loop(tf.constant(_UPDATES)).numpy()  # waits for a GPU, too
            times.append((time.perf_counter() - began) / _UPDATES)
    return statistics.median(times)


def _nothing(variable: keras.Variable, rows: int | None) -> Gradient:
    shape = tuple(variable.shape)
    if rows is None:
        return tf.zeros(shape, variable.dtype)
    values = tf.zeros((rows, *shape[1:]), variable.dtype)
    return tf.IndexedSlices(values, tf.range(rows), tf.constant(shape, tf.int32))


def _one_of_each(variables: Sequence[keras.Variable]) -> tf.Tensor:
    return tf.stack([tf.cast(tf.reshape(v.value, [-1])[0], tf.float32) for v in variables])
