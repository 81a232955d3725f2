"""Small models on made-up data, to measure where there is no script: `--model tiny|mlp|cnn|lstm`.

python -m tfdist.bench.builtin mlp
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf

import tfdist

REPLICA_BATCH = 64
_BATCHES = 20  # different ones; they are repeated, from memory
_STEPS = {"tiny": 600, "mlp": 100, "cnn": 40, "lstm": 60}


def _layers(name: str) -> list[keras.layers.Layer]:
    layers = keras.layers
    if name == "tiny":
        return [layers.Flatten(), layers.Dense(10)]
    if name == "mlp":
        hidden = [layers.Dense(512, activation="relu") for _ in range(2)]
        return [layers.Flatten(), *hidden, layers.Dense(10)]
    if name == "cnn":
        return [
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    return [layers.Reshape((28, 28)), layers.LSTM(64), layers.Dense(10)]


def main(name: str) -> None:
    """Trains the model of that name on all workers, each with its own 64 examples a step."""
    strategy = tfdist.strategy()
    batch = REPLICA_BATCH * strategy.num_replicas_in_sync
    random = np.random.default_rng(0)
    x = random.normal(size=(batch * _BATCHES, 28, 28, 1)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, random.integers(0, 10, len(x))))
    with strategy.scope():
        model = keras.Sequential([keras.Input((28, 28, 1)), *_layers(name)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
    tfdist.plug(model)
    batches = data.batch(batch, drop_remainder=True).cache().repeat()
    model.fit(batches, steps_per_epoch=_STEPS[name], epochs=1000)  # the measurement ends it


if __name__ == "__main__":
    main(sys.argv[1])
