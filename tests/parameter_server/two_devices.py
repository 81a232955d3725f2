"""A job whose workers have two CPUs each: the second stands in for a GPU."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

import tfdist
from tfdist.strategies import own_gpus

X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")


def two(config: tf.compat.v1.ConfigProto, *, computes: bool) -> None:
    """Stands in for `limit_server`."""
    config.device_count["CPU"] = 2 if computes else 1


def main() -> None:
    own_gpus.limit_server = two
    own_gpus.of_workers = lambda: "/device:CPU:1"
    strategy = tfdist.strategy("parameter_server")
    with strategy.scope():
        layers = [keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((8,)), *layers])
        model.compile("adam", "mse", metrics=["mae"])
    tfdist.plug(model)
    model.fit(X, X[:, :1], batch_size=8, epochs=2, verbose=0)
    model.evaluate(X, X[:, :1], batch_size=8, verbose=0)
    model.predict(X, batch_size=8, verbose=0)


if __name__ == "__main__":
    main()
