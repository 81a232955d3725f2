"""What twelve workers train, and one process."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfdist

WORKERS = 12
X = np.random.RandomState(0).normal(size=(96, 24)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


class Spread(keras.Model):
    """Its loss depends on who has which column of what is gathered along axis 1."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(24, activation="tanh")
        self.top = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.top(self.hidden(x))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any
    ) -> Any:
        context, columns = tf.distribute.get_replica_context(), tf.transpose(y - y_pred)
        if context is not None and tf.distribute.has_strategy():
            columns = context.all_gather(columns, axis=1)
        return tf.reduce_mean(tf.square(columns) * tf.range(1.0, 49.0))


def train(
    scope: AbstractContextManager[Any], kind: type[keras.Model] | None, **options: Any
) -> Any:
    """Returns the weights and the losses after two epochs of two steps."""
    keras.utils.set_random_seed(0)
    with scope:
        if kind is None:
            layers = [keras.layers.Dense(24, activation="tanh"), keras.layers.Dense(1)]
            model = keras.Sequential([keras.Input((24,)), *layers])
        else:
            model = kind()
            model.build((None, 24))
        model.compile(keras.optimizers.Adam(0.01), "mse")
    if options or kind is not None:
        tfdist.plug(model, **{name: value for name, value in options.items() if value})
    history = model.fit(X, Y, batch_size=48, epochs=2, shuffle=False, verbose=0).history
    return model.get_weights(), history["loss"]
