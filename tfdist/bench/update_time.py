"""How long the optimizer takes for all weights, by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tfdist import log

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = ["update_seconds"]

MOST = 64 << 20
"""Bytes of weights that are updated to see it; where there are more, they take as long a byte."""
_REPEATS = 10


def update_seconds(
    optimizer: keras.optimizers.Optimizer | None, weights: Sequence[tf.Tensor]
) -> float:
    """Times an optimizer like this one, with slots of its own, on one device.

    Args:
        optimizer: of the model; None takes no time.
        weights: tensors like all that are trained.

    Returns:
        Seconds of one update of all weights, as if every gradient were dense; 0 where there are
        none, or where an optimizer of the user's cannot be made from its own settings.
    """
    if optimizer is None or not weights:
        return 0.0
    # In a thread of its own no strategy's scope is open, under which weights would be mirrored.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_timed, optimizer, weights).result()


def _timed(given: keras.optimizers.Optimizer, weights: Sequence[tf.Tensor]) -> float:
    import keras
    import tensorflow as tf

    try:
        optimizer = type(given).from_config(given.get_config())
    except (TypeError, ValueError, NotImplementedError) as error:
        log.info("the update is not timed by itself: %s: %s", type(given).__name__, error)
        return 0.0
    size = sum(int(tf.size(weight)) * weight.dtype.size for weight in weights)
    if size > MOST:
        weights = [tf.zeros([MOST // weights[0].dtype.size], weights[0].dtype)]
    variables = [keras.Variable(weight, dtype=weight.dtype.name) for weight in weights]
    optimizer.build(variables)

    @tf.function(autograph=False)
    def loop(times: tf.Tensor) -> None:
        def body(i: tf.Tensor) -> tuple[tf.Tensor]:
            optimizer.apply([tf.zeros_like(weight) for weight in weights], variables)
            return (i + 1,)

        tf.while_loop(lambda i: i < times, body, (tf.constant(0),), parallel_iterations=1)

    loop(tf.constant(2))
    found = []
    for _ in range(3):
        began = time.perf_counter()
        loop(tf.constant(_REPEATS))
        found.append((time.perf_counter() - began) / _REPEATS)
    return sorted(found)[1] * max(1.0, size / MOST)
