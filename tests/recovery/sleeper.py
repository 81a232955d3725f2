"""One of two workers sleeps in a callback for longer than it takes to be named.

tfdist run --workers 2 sleeper.py
"""

from __future__ import annotations

import time

import keras
import numpy as np

import tfdist

strategy = tfdist.strategy(rendezvous_timeout=60)
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")


class Sleeper(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        if epoch == 0 and not tfdist.is_chief():
            time.sleep(15)


tfdist.plug(model).fit(
    np.ones((8, 4)), np.ones((8, 1)), epochs=2, shuffle=False, verbose=0, callbacks=[Sleeper()]
)
