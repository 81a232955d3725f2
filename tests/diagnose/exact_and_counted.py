"""Trains for some seconds with all that a fault may meet: long steps, saves, a validation.

It counts the examples itself, and fails (exit code 3) where an epoch had not each of them once.

tfdist run --workers 2 [--ps 1] exact_and_counted.py KIND
"""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfdist

EXAMPLES, EPOCHS = 1000, 3
strategy = tfdist.strategy(sys.argv[1])


@keras.saving.register_keras_serializable("chaos")
class Seen(keras.metrics.Metric):
    """Counts examples."""

    def __init__(self, name: str = "seen", **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.count.assign_add(keras.ops.cast(keras.ops.shape(y_true)[0], "float32"))

    def result(self) -> Any:
        return self.count


keras.utils.set_random_seed(1)
rng = np.random.default_rng(0)
x = rng.normal(size=(EXAMPLES, 64)).astype("float32")
y = rng.integers(0, 3, EXAMPLES)
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(300).batch(64)
with strategy.scope():
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(512, "relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(512, "relu"),
            keras.layers.Dense(3),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.001),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", Seen()],
    )
keep = tfdist.callbacks.Checkpoint("run", every_steps=4)
history = tfdist.plug(model).fit(
    data, epochs=EPOCHS, verbose=0, validation_data=(x[:600], y[:600]), callbacks=[keep]
)
seen = history.history.get("seen", [])  # nothing, where it had ended well before
if seen not in ([], [EXAMPLES] * EPOCHS):
    print(f"examples of each epoch: {seen}")
    sys.exit(3)
