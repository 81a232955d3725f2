"""Trains with a checkpoint below the working directory; "unseeded" draws other weights each time.

tfdist run --workers 1 seeded.py [unseeded]
"""

from __future__ import annotations

import sys
import time

import keras
import numpy as np

import tfdist

if "unseeded" not in sys.argv[1:]:
    keras.utils.set_random_seed(1)
rng = np.random.default_rng(0)
x = rng.normal(size=(96, 8)).astype("float32")
y = x.sum(axis=1, keepdims=True)
strategy = tfdist.strategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    model.compile("adam", "mse")
slow = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: time.sleep(0.05))
keep = tfdist.callbacks.Checkpoint("run", every_steps=2)
tfdist.plug(model).fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=[keep, slow])
