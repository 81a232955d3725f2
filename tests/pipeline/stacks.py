"""Models that plain Keras and a pipeline of two workers must agree on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers, optimizers

from tests.multi_worker import programs
from tests.multi_worker.programs import LABELS, WEIGHTS, X

__all__ = ["CASES", "USUAL", "fit", "stack", "use"]


class OwnStep(keras.Model):
    """Takes a step with a tape of its own."""

    def train_step(self, data: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=sample_weight)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.compute_metrics(x, y, predicted, sample_weight)
        return {"norm": tf.linalg.global_norm(gradients), "own": loss}


def stack(kind: type[keras.Model] = keras.Model) -> keras.Model:
    """Four layers with a skip connection, momentum and a regularizer."""
    inputs = keras.Input((8,))
    first = layers.Dense(16, "tanh", kernel_regularizer="l2", name="first")(inputs)
    second = layers.Dense(16, "tanh", name="second")(first)
    third = layers.Dense(16, "tanh", name="third")(layers.Add()([first, second]))
    model = kind(inputs, layers.Dense(3, name="fourth")(third))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    return model


def towers() -> keras.Model:
    """Two towers beside each other, and Adam."""
    inputs = keras.Input((8,))
    left = layers.Dense(8, "tanh", name="left_1")(inputs)
    left = layers.Dense(8, "tanh", name="left_2")(left)
    right = layers.Dense(8, "tanh", name="right_1")(inputs)
    right = layers.Dense(8, "tanh", name="right_2")(right)
    model = keras.Model(inputs, layers.Dense(3)(layers.Concatenate()([left, right])))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.Adam(0.01, clipnorm=0.5), loss, metrics=["accuracy"])
    return model


def tied() -> keras.Model:
    """The first layer's weights are the last's, too."""
    inputs = keras.Input((8,))
    again = layers.Dense(8, "tanh", name="again")
    hidden = layers.Dense(8, "tanh", name="between")(again(inputs))
    model = keras.Model(inputs, layers.Dense(3)(again(hidden)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    return model


CASES: dict[str, tuple[Callable[[], keras.Model], dict[str, Any]]] = {
    "1f1b": (stack, {}),
    "gpipe, recomputed": (stack, {"schedule": "gpipe", "recompute": True}),
    "zero bubble": (stack, {"schedule": "zero_bubble"}),
    "four stages on two tasks": (stack, {"stages": ["second", "third", "fourth"]}),
    "interleaved": (stack, {"schedule": "interleaved"}),
    "zb_v": (stack, {"schedule": "zb_v"}),
    "two replicas": (stack, {"replicas": 2, "stages": 1}),
    "a step of its own": (functools.partial(stack, OwnStep), {}),
    "tied": (tied, {}),
    "towers": (towers, {"stages": 1, "place": {"left*": 0, "right*": 1}}),
}
"""Models and plans."""

_LONG = {"zero bubble", "four stages on two tasks", "interleaved", "tied"}
USUAL = [name for name in CASES if programs.THOROUGH or name not in _LONG]
"""What workers run; `tests/training/test_pipeline.py` has all of them in one process."""


def fit(model: keras.Model, **settings: Any) -> Any:
    """Trains on 105 rows in batches of 32, the last one of 9."""
    return model.fit(
        X, LABELS, 32, sample_weight=WEIGHTS, shuffle=False, verbose=0, **settings
    ).history


def use(model: keras.Model) -> Any:
    """Trains, tests and predicts."""
    history = fit(model, epochs=2, validation_data=(X, LABELS))
    tested = model.evaluate(X, LABELS, 40, verbose=0, return_dict=True)
    return {"history": history, "tested": tested, "predicted": model.predict(X, 50, verbose=0)}
