"""A model of float64 is one machine's to the rounding of float64, also where shares are uneven."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.comparing import BRAIN, HISTORY, WEIGHTS, same

RNG = np.random.default_rng(0)
X = RNG.normal(size=(101, 4))
Y = X.sum(axis=1, keepdims=True)


class OwnStep(keras.Model):
    """A step of its own, with a log that is no metric."""

    def __init__(self) -> None:
        super().__init__(dtype="float64")
        self.hidden = keras.layers.Dense(5, activation="tanh", dtype="float64")
        self.out = keras.layers.Dense(1, dtype="float64")

    def build(self, shape: Any) -> None:
        self.hidden.build(shape)
        self.out.build((None, 5))

    def call(self, x: Any) -> Any:
        return self.out(self.hidden(x))

    def descend(self, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            error = self(x) - tf.cast(y, "float64")  # Keras hands arrays on as float32
            loss = tf.reduce_mean(tf.square(error))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return loss, error

    def train_step(self, data: Any) -> Any:
        loss, error = self.descend(*data)
        return {"loss": loss, "mean": tf.reduce_mean(error)}


def keras_own() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4,), dtype="float64"),
            keras.layers.Dense(5, activation="tanh", dtype="float64"),
            keras.layers.Dense(1, dtype="float64"),
        ]
    )


@pytest.mark.parametrize(
    ("make", "history"), [(OwnStep, 1e-12), (keras_own, 1e-5)], ids=["own_step", "kerass_step"]
)
def test_uneven_shares_are_as_exact_as_the_model(make: Any, history: float) -> None:
    """Keras' own metrics are float32, whatever the model is."""

    def compiled() -> keras.Model:
        model = make()
        model.build((None, 4))
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
        return model

    same(
        compiled,
        lambda m: m.fit(X, Y, 32, epochs=4, shuffle=False, verbose=0).history,
        history=history,
        weights=1e-13,
    )


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_weights_of_two_types_are_summed_apart(dtype: str) -> None:
    """As LoRA's float32 kernels in a model of another type."""

    def compiled() -> keras.Model:
        hidden = keras.layers.Dense(5, activation="tanh")
        model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(2, dtype=dtype)])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        return model

    same(
        compiled,
        lambda m: m.fit(X[:41], Y[:41], 16, epochs=2, shuffle=False, verbose=0).history,
        history=BRAIN if dtype == "bfloat16" else HISTORY,
        weights=BRAIN if dtype == "bfloat16" else WEIGHTS,
    )


class SumsTwoTypes(OwnStep):
    """What a step sums itself, rows and errors in one call."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        _, error = self.descend(x, y)
        context = tf.distribute.get_replica_context()
        of_all = context.all_reduce("SUM", {"rows": tf.shape(x)[0], "error": tf.reduce_sum(error)})
        rows = tf.cast(of_all["rows"], "float64")
        return {"mean": of_all["error"] / rows}


def test_an_own_sum_of_several_types_is_one_machines() -> None:
    def compiled() -> keras.Model:
        model = SumsTwoTypes()
        model.build((None, 4))
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        return model

    same(
        compiled,
        lambda m: {
            "mean": m.fit(X[:41], Y[:41], 41, epochs=2, shuffle=False, verbose=0).history["mean"]
        },
        history=1e-12,
        weights=1e-13,
    )
