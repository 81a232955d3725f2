"""How long the optimizer takes for all weights, by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tfdist import log

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = ["one_of_each", "seconds_a_turn", "update_seconds"]

MOST = 64 << 20
"""Bytes of weights that are updated to see it; where there are more, they take as long a byte."""
_REPEATS = 10


def update_seconds(
    optimizer: keras.optimizers.Optimizer | None, weights: Sequence[tf.TensorSpec]
) -> tuple[float, str]:
    """Times an optimizer like this one, with slots of its own, on one device.

    Args:
        optimizer: of the model; None takes no time.
        weights: shapes and types of all that are trained.

    Returns:
        Seconds of one update of all weights, as if every gradient were dense, and ""; 0 and the
        reason where it cannot be timed, as an optimizer of the user's that cannot be made from its
        own settings.
    """
    if optimizer is None or not weights:
        return 0.0, ""
    # In a thread of its own no strategy's scope is open, under which weights would be mirrored.
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(_timed, optimizer, weights).result(), ""
        except Exception as error:  # whatever a user's code raises: the job was measured before
            lines = str(error).strip().splitlines() or ["it says nothing"]
            why = f"{type(optimizer).__name__}: {type(error).__name__}: {lines[0]}"
    log.info("the update is not timed by itself: %s", why)
    return 0.0, why


def one_of_each(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """One number of each tensor: whoever reads them has waited for all, on a GPU, too."""
    import tensorflow as tf

    return tf.concat([tf.cast(tf.reshape(one, [-1])[:1], tf.float32) for one in tensors], 0)


def seconds_a_turn(loop: Callable[[tf.Tensor], tf.Tensor]) -> float:
    """Times a program that takes so many turns, and returns a number that is there at the end.

    Args:
        loop: called with a number of turns, an int32 scalar.

    Returns:
        Seconds of one turn, the median of three runs after a first one.
    """
    import tensorflow as tf

    loop(tf.constant(2)).numpy()
    found = []
    for _ in range(3):
        began = time.perf_counter()
        loop(tf.constant(_REPEATS)).numpy()  # waits for a GPU, too
        found.append((time.perf_counter() - began) / _REPEATS)
    return sorted(found)[1]


def _timed(given: keras.optimizers.Optimizer, weights: Sequence[tf.TensorSpec]) -> float:
    import keras
    import tensorflow as tf

    optimizer = type(given).from_config(given.get_config())
    size = sum(weight.shape.num_elements() * weight.dtype.size for weight in weights)
    if size > MOST:
        weights = [tf.TensorSpec([MOST // weights[0].dtype.size], weights[0].dtype)]
    variables = [
        keras.Variable(tf.zeros(weight.shape, weight.dtype), dtype=weight.dtype.name)
        for weight in weights
    ]
    optimizer.build(variables)

    @tf.function(autograph=False)
    def loop(times: tf.Tensor) -> tf.Tensor:
        def body(i: tf.Tensor) -> tuple[tf.Tensor]:
            optimizer.apply([tf.zeros(weight.shape, weight.dtype) for weight in weights], variables)
            return (i + 1,)

        tf.while_loop(lambda i: i < times, body, (tf.constant(0),), parallel_iterations=1)
        return one_of_each([variable.value for variable in variables])

    return seconds_a_turn(loop) * max(1.0, size / MOST)
