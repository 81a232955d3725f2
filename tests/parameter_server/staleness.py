"""A parameter-server job of which one step takes long; the chief writes what it has seen."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfdist

BATCHES = 80
ROWS = 8
LONG = 20  # the number of the step that takes long


@keras.saving.register_keras_serializable("tests")
class Work(keras.layers.Layer):
    """The identity, which works as long as the last column says."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        matrix = tf.fill([300, 300], 1 / 300 + 1e-9 * inputs[0, 0])
        _, done = tf.while_loop(
            lambda i, _: i < tf.reduce_max(inputs[:, 3]),
            lambda i, value: (i + 1, tf.linalg.matmul(value, matrix)),
            (tf.constant(0.0), matrix),
        )
        return tf.where(tf.stop_gradient(done[0, 0]) > 1e9, inputs + 1, inputs)


def model_of() -> keras.Model:
    """A line through points."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), Work(), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-8), "mse")
    return model


def fit(model: keras.Model) -> dict[str, list[float]]:
    """Trains for two epochs, of which the first traces."""
    x = np.random.default_rng(5).normal(size=(ROWS * BATCHES, 4)).astype("float32")
    x[:, 3] = 0
    x[ROWS * LONG, 3] = 1500
    history: dict[str, list[float]] = model.fit(
        x, x.sum(1, keepdims=True), ROWS, epochs=2, shuffle=False, verbose=0
    ).history
    return history


def main() -> None:
    """Trains with several bounds."""
    strategy = tfdist.strategy()
    found = {}
    for most in (0, 2, 100_000):
        with strategy.scope():
            model = model_of()
        began = time.monotonic()
        history = fit(tfdist.plug(model, max_staleness=most))
        weights = [w.tolist() for w in model.get_weights()]
        iterations = int(model.optimizer.iterations.numpy())
        found[most] = (history, weights, iterations, time.monotonic() - began)
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
