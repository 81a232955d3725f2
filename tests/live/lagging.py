"""A job of two workers of which one lags, and is killed in the end."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

import tfdist

STEPS, BATCH, LAST = 200, 8, 240
count = itertools.count()
x = np.ones((BATCH, 16), "float32")


def rows() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for _ in range(STEPS):
        if not tfdist.is_chief():
            time.sleep(0.05)
            if next(count) == LAST:
                os.kill(os.getpid(), signal.SIGKILL)
        yield x, x[:, :1]


strategy = tfdist.strategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
tfdist.plug(model)
specs = (tf.TensorSpec([BATCH, 16]), tf.TensorSpec([BATCH, 1]))
data = tf.data.Dataset.from_generator(rows, output_signature=specs)
data = data.apply(tf.data.experimental.assert_cardinality(STEPS))

print("begins", flush=True)
model.fit(data, epochs=3, verbose=1 if tfdist.is_chief() else 0)
