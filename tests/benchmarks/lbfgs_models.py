"""What the L-BFGS benchmark trains: a small network on the handwritten digits."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

BATCH = 64
ITERATIONS = 60
EPOCHS = 60
_DIGITS = load_digits()
X = (_DIGITS.data / 16.0).astype("float32")
Y = _DIGITS.target.astype("int32")


def digits(optimizer: Any = None) -> keras.Model:
    """Dense 32, tanh, and Dense 10, with a small quadratic penalty."""
    keras.utils.set_random_seed(1)
    penalty = keras.regularizers.L2(2.0**-17)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(32, activation="tanh", kernel_regularizer=penalty),
            layers.Dense(10, kernel_regularizer=penalty),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    return model


def numpy_loss(model: keras.Model) -> Any:
    """The loss and the gradient of all rows as functions of flat weights, for SciPy."""
    import tensorflow as tf

    weights = model.trainable_variables
    shapes = [tuple(v.shape) for v in weights]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    @tf.function
    def compute() -> Any:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=X, y=Y, y_pred=model(X, training=True), training=True)
        return loss, tape.gradient(loss, [v.value for v in weights])

    def function(flat: np.ndarray) -> tuple[float, np.ndarray]:
        for variable, part, shape in zip(weights, np.split(flat, ends), shapes, strict=True):
            variable.assign(part.reshape(shape))
        loss, gradients = compute()
        return float(loss), np.concatenate([np.ravel(g) for g in gradients]).astype("float64")

    return function, np.concatenate([np.ravel(v.numpy()) for v in weights]).astype("float64")
