"""What a probe times beside whole steps: steps of few rows, and the optimizers' updates.

Each is told as a part of the whole step beside which it was timed, by turns: another minute of a
busy machine, that in which `fit` is watched, may take twice the seconds, but not other parts. A
step that is taken by itself costs a call from Python, too, which those of `fit` share: of models of
next to no computing both parts are told too small.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from tfdist.compat import keras_optimizers
from tfdist.structures import Gradient
from tfdist.training.model_parts import optimizers_of

if TYPE_CHECKING:
    from tfdist.training.loop.family import Family

__all__ = ["growing_part", "update_part", "wait_for"]

_TIMES = range(5)
_UPDATES = 3


def growing_part(
    family: Family, few: Callable[[], None], all_rows: Callable[[], None], share: float
) -> float:
    """Which part of a step grows with its rows, by the median of some pairs of steps.

    Args:
        family: of one worker; of several it is 0, as nobody asks these.
        few: takes a step of next to no rows, of a program that is traced.
        all_rows: takes one of all.
        share: of all rows those that the second has more, 0 to 1.

    Returns:
        From 0 to 1; where the step of few rows takes as long, 0.
    """
    if family.layout.workers > 1 or share <= 0:
        return 0.0
    more = 1 - _median_part(_seconds(few, family) / _seconds(all_rows, family) for _ in _TIMES)
    return min(1.0, more / share)


def wait_for(model: keras.Model) -> None:
    """Waits until all steps that were begun have ended: a GPU's go on when the call is back."""
    if weights := model.trainable_variables:
        tf.reshape(weights[0].value, [-1])[0].numpy()


def _median_part(parts: Iterable[float]) -> float:
    return min(1.0, statistics.median(parts))


def _seconds(step: Callable[[], None], family: Family) -> float:
    began = time.perf_counter()
    step()
    wait_for(family.model)
    return time.perf_counter() - began


def update_part(
    family: Family, all_rows: Callable[[], None], rows: Mapping[str, int], *, dense: bool
) -> float:
    """Which part of a step the optimizers take to update all weights, by gradients of 0.

    It changes the weights, by momentum and decay: to be called when nobody needs them any more.

    Args:
        family: of one worker; of several it is 0.
        all_rows: takes a step of all rows.
        rows: of the tables that get gradients of so many rows, by the path of their variable.
        dense: leaves these tables out.

    Returns:
        From 0 to 1; the update is part of the step, however long it takes apart.
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
    def loop(times: tf.Tensor) -> None:
        def body(i: tf.Tensor) -> tuple[tf.Tensor]:
            with tf.control_dependencies([i]):
                family.strategy.run(update)
            return (i + 1,)

        tf.while_loop(lambda i: i < times, body, (tf.constant(0),), parallel_iterations=1)

    def updates() -> None:
        loop(tf.constant(_UPDATES))

    with family.strategy.scope():
        loop(tf.constant(2))
    all_rows()  # its first rows are read
    wait_for(family.model)
    return _median_part(
        _seconds(updates, family) / _UPDATES / _seconds(all_rows, family) for _ in _TIMES
    )


def _nothing(variable: keras.Variable, rows: int | None) -> Gradient:
    shape = tuple(variable.shape)
    if rows is None:
        return tf.zeros(shape, variable.dtype)
    values = tf.zeros((rows, *shape[1:]), variable.dtype)
    return tf.IndexedSlices(values, tf.range(rows), tf.constant(shape, tf.int32))
