"""Keras' own pieces that look across the rows of a batch, and metrics of one's own that do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses

import tfdist
from tests.training.comparing import mirrored, same
from tests.training.models import LABELS, X
from tests.training.test_own_sums import warnings

RNG = np.random.default_rng(2)
IMAGES = RNG.uniform(size=(60, 6, 6, 3)).astype("float32")
TWO = np.eye(3, dtype="float32")[LABELS]
FIT: dict[str, Any] = {"batch_size": 32, "epochs": 2, "shuffle": False, "verbose": 0}


@pytest.mark.parametrize(
    "loss",
    [
        losses.Dice(),
        losses.Dice(axis=(0,)),
        losses.Dice(axis=(1,)),
        losses.Tversky(alpha=0.3, beta=0.7),
    ],
    ids=["Dice", "Dice of each column", "Dice of each row", "Tversky"],
)
def test_quotients_of_sums_over_all_rows(loss: losses.Loss) -> None:
    def make() -> keras.Model:
        layers_ = [keras.Input((8,)), layers.Dense(3, activation="softmax")]
        model = keras.Sequential(layers_)
        model.compile(keras.optimizers.SGD(0.5), loss)
        return model

    same(make, lambda model: model.fit(X, TWO, validation_data=(X[:7], TWO[:7]), **FIT).history)


def test_pairs_of_rows() -> None:
    def make() -> keras.Model:
        model = keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.UnitNormalization()])
        model.compile(keras.optimizers.SGD(0.01), losses.Circle(gamma=2))
        return model

    same(make, lambda model: model.fit(X, LABELS, **FIT).history)


@pytest.mark.parametrize("layer", [layers.MixUp, layers.CutMix])
def test_rows_that_are_mixed(layer: Callable[[], keras.Layer]) -> None:
    def make() -> keras.Model:
        model = keras.Sequential([keras.Input((6, 6, 3)), layer(), layers.Flatten()])
        model.add(layers.Dense(1))
        model.compile(keras.optimizers.SGD(0.01), "mse")
        return model

    y = IMAGES.mean(axis=(1, 2, 3))
    same(make, lambda model: (model.fit(IMAGES, y, **FIT).history, model.predict(IMAGES[:5])))


def test_a_loss_function_that_returns_a_sum_is_told_as_one_machines() -> None:
    def make() -> keras.Model:
        model = keras.Sequential([keras.Input((8,)), layers.Dense(3, kernel_regularizer="l2")])
        model.compile(keras.optimizers.SGD(0.002), lambda y, p: tf.reduce_sum(tf.square(y - p)))
        return model

    def use(model: keras.Model) -> Any:
        history = model.fit(X, TWO, validation_data=(X[:9], TWO[:9]), **FIT).history
        return history, model.evaluate(X, TWO, verbose=0)

    same(make, use)


class DropsItsKernel(keras.layers.Layer):
    """DropConnect, where the kernel is as high as a replica has rows."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 5))
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x: Any) -> Any:
        return x @ keras.random.dropout(self.kernel, 0.4, seed=self.seed)


def test_weights_that_are_dropped_are_the_same_on_all_replicas() -> None:
    data = tf.data.Dataset.from_tensor_slices((X, TWO)).batch(24, drop_remainder=True)

    def make() -> keras.Model:
        model = keras.Sequential([keras.Input((8,)), DropsItsKernel(), layers.Dense(3)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        return model

    same(make, lambda model: model.fit(data, epochs=2, verbose=0).history)


class Largest(keras.metrics.Metric):
    """Keeps what no sum over the replicas makes."""

    def __init__(self) -> None:
        super().__init__(name="largest")
        self.most = self.add_variable((), "zeros", name="most")

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        self.most.assign(tf.maximum(self.most.value, tf.reduce_max(tf.abs(y - p))))

    def result(self) -> Any:
        return self.most


class LargestOfAll(Largest):
    """As tfdist's warning has it."""

    def __init__(self) -> None:
        keras.metrics.Metric.__init__(self, name="largest")
        self.most = self.add_variable((), "zeros", name="most", aggregation="mean")

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        super().update_state(tfdist.gather_batch(y), tfdist.gather_batch(p))


class Adds(Largest):
    """Adds by an assignment, as many do."""

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        self.most.assign(self.most + tf.reduce_sum(tf.abs(y - p)))


def largest(y: Any, p: Any) -> Any:
    return tf.reduce_max(tf.abs(y - p))


def with_metric(metric: Any) -> Callable[[], keras.Model]:
    def make() -> keras.Model:
        model = keras.Sequential([keras.Input((8,)), layers.Dense(3)])
        model.compile(keras.optimizers.SGD(0.1), "mse", metrics=[metric()])
        return model

    return make


@pytest.mark.parametrize("metric", [LargestOfAll, Adds])
def test_metrics_that_add_or_gather_are_one_machines(
    metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = warnings(monkeypatch)
    same(with_metric(metric), lambda model: model.fit(X, TWO, **FIT).history)
    assert said == []


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        (Largest, "a metric of your own assigns to its state most, and the states of the replicas"),
        (lambda: largest, "a number that a step gives to a metric is computed across the"),
    ],
    ids=["assigned", "a function"],
)
def test_metrics_that_look_across_the_rows_are_told(
    metric: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = warnings(monkeypatch)
    with mirrored(2).scope():
        model = with_metric(metric)()
    tfdist.plug(model)
    model.fit(X, TWO, **{**FIT, "epochs": 1})
    assert len(said) == 1
    assert told in said[0]
