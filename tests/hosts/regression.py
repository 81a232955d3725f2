"""What the tests train on hosts: a small regression, whose chief saves the weights at its end."""

from __future__ import annotations

import sys

import keras
import numpy as np

import tfdist


def main(weights: str, epochs: int, checkpoint: str) -> None:
    strategy = tfdist.strategy()
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential(
            [keras.layers.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)]
        )
        model.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.9), loss="mse")
    tfdist.plug(model)
    x = np.random.default_rng(0).normal(size=(1000, 8)).astype("float32")
    callbacks = [tfdist.callbacks.Checkpoint(checkpoint)] if checkpoint else []
    print("begins", flush=True)
    model.fit(x, x.sum(1, keepdims=True), 64, epochs, verbose=0, callbacks=callbacks)
    if tfdist.is_chief():
        np.savez(weights, *model.get_weights())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
