"""Tiny models and data that the transparency tests share: 8 features, 105 examples."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

_random = np.random.default_rng(42)

EXAMPLES = 105
X = _random.normal(size=(EXAMPLES, 8)).astype("float32")
LABELS = _random.integers(0, 3, size=EXAMPLES)
TARGETS = (X[:, :2] ** 2 + X[:, 2:4]).astype("float32")
YES = (X.sum(axis=1, keepdims=True) > 0).astype("float32")
WEIGHTS = _random.uniform(0, 2, size=EXAMPLES).astype("float32")
TOKENS = (
    _random.integers(1, 20, size=(EXAMPLES, 6))
    * (np.arange(6) < _random.integers(1, 7, size=(EXAMPLES, 1)))
).astype("int32")
"""Words of sentences of 1 to 6 words, padded with 0."""

FIT: dict[str, Any] = {"batch_size": 32, "epochs": 2, "verbose": 0}
"""Four batches an epoch, the last one of 9 examples."""


def classifier(
    optimizer: Any = None, loss: Any = "sparse_categorical_crossentropy", **compile_: Any
) -> keras.Model:
    """A Sequential model for `X` and `LABELS`."""
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, activation="tanh"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    compile_.setdefault("metrics", ["accuracy"])
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, **compile_)
    return model


def regressor(optimizer: Any = None, loss: Any = "mse", **compile_: Any) -> keras.Model:
    """A Sequential model for `X` and `TARGETS`."""
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(6, activation="tanh"), layers.Dense(2)]
    )
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss, **compile_)
    return model


def binary(**compile_: Any) -> keras.Model:
    """A Sequential model for `X` and `YES`."""
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(4, activation="tanh"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", **compile_)
    return model


def two_in_two_out(**compile_: Any) -> keras.Model:
    """A functional model: inputs "left" and "right" (4 features each), outputs "label", "value"."""
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    hidden = layers.Dense(6, activation="tanh")(layers.Concatenate()([left, right]))
    outputs = {
        "label": layers.Dense(3, activation="softmax", name="label")(hidden),
        "value": layers.Dense(2, name="value")(layers.Add()([hidden, layers.Dense(6)(right)])),
    }
    model = keras.Model({"left": left, "right": right}, outputs)
    settings: dict[str, Any] = {
        "loss": {"label": "sparse_categorical_crossentropy", "value": "mse"},
        "loss_weights": {"label": 0.7, "value": 0.2},
        "metrics": {"label": ["accuracy"], "value": ["mae"]},
        "weighted_metrics": {"label": ["accuracy"]},
    }
    model.compile(keras.optimizers.SGD(0.1), **{**settings, **compile_})
    return model


TWO_IN = {"left": X[:, :4], "right": X[:, 4:]}
TWO_OUT = {"label": LABELS, "value": TARGETS}


class History(keras.callbacks.Callback):
    """Writes down every call of the batch and epoch hooks, with the logs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def _note(self, name: str, index: int | None, logs: Any) -> None:
        self.calls.append((name, index, dict(logs or {})))

    def on_train_begin(self, logs: Any = None) -> None:
        self._note("train begin", None, logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._note("train end", None, logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._note("epoch begin", epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._note("epoch end", epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._note("batch begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._note("batch end", batch, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        self._note("test begin", None, logs)

    def on_test_end(self, logs: Any = None) -> None:
        self._note("test end", None, logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._note("test batch begin", batch, logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._note("test batch end", batch, logs)

    def on_predict_begin(self, logs: Any = None) -> None:
        self._note("predict begin", None, logs)

    def on_predict_end(self, logs: Any = None) -> None:
        self._note("predict end", None, logs)

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._note("predict batch begin", batch, logs)

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self._note("predict batch end", batch, logs)
