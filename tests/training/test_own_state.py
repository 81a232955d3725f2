"""Metrics, and state that a step writes, of a program of one's own: one machine's, or named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tests.training.comparing import EVERY, WEIGHTS, on_replicas, same
from tests.training.models import TARGETS, X
from tests.training.test_own_steps import FIT, Base, trained


def test_a_sum_inside_of_a_metric_is_left_alone() -> None:
    class Total(keras.metrics.Metric):
        def __init__(self) -> None:
            super().__init__(name="total")
            self.loss = keras.losses.MeanSquaredError(reduction="sum")
            self.sum = self.add_variable((), "zeros")
            self.rows = self.add_variable((), "zeros")

        def update_state(self, y: Any, found: Any, sample_weight: Any = None) -> None:
            self.sum.assign_add(self.loss(y, found))
            self.rows.assign_add(keras.ops.cast(keras.ops.shape(y)[0], "float32"))

        def result(self) -> Any:
            return self.sum

    def make() -> keras.Model:
        model = Base()
        model.build((None, 8))
        model.compile("sgd", "mse", metrics=[Total()])
        return model

    same(make, lambda m: [m.fit(X, TARGETS, **FIT).history, m.evaluate(X, TARGETS)], on=EVERY)


@pytest.mark.parametrize("eager", [False, True])
def test_what_a_step_computes_from_a_result_is_of_all_replicas(eager: bool) -> None:
    class Perplexity(Base):
        def __init__(self) -> None:
            super().__init__()
            self.tracker = keras.metrics.Mean(name="tracked")

        def train_step(self, data: Any) -> Any:
            loss, gradients = self.gradients_of(*data)
            self.tracker.update_state(keras.losses.mean_squared_error(data[1], self(data[0])))
            self.apply([g * (1.0 + self.tracker.result()) for g in gradients])
            return {"loss": loss, "perplexity": tf.exp(self.tracker.result())}

    def make() -> keras.Model:
        model = Perplexity()
        model.build((None, 8))
        model.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=eager)
        return model

    same(make, lambda m: m.fit(X, TARGETS, **FIT).history, on=(2,) if eager else EVERY)


class CountsSteps(keras.metrics.Metric):
    """A mean over steps: of means over the batch, and of sums over it."""

    def __init__(self, dtype: str = "float32") -> None:
        super().__init__(name="steps")
        self.means = self.add_variable((), "zeros")
        self.sums = self.add_variable((), "zeros")
        self.steps = self.add_variable((), "zeros", dtype=dtype)

    def update_state(self, y: Any, found: Any, sample_weight: Any = None) -> None:
        error = keras.ops.square(y - found)
        self.means.assign_add(keras.ops.mean(error))
        self.sums.assign_add(keras.ops.sum(error))
        self.steps.assign_add(1)

    def result(self) -> Any:
        steps = keras.ops.cast(self.steps, "float32")
        return keras.ops.stack([self.means / steps, self.sums / steps, steps])


class CountsRows(CountsSteps):
    def update_state(self, y: Any, found: Any, sample_weight: Any = None) -> None:
        rows = keras.ops.shape(y)[0]
        error = keras.ops.square(y - found)
        self.means.assign_add(keras.ops.mean(error) * keras.ops.cast(rows, "float32"))
        self.sums.assign_add(keras.ops.sum(error))
        self.steps.assign_add(keras.ops.cast(rows, self.steps.dtype))


@pytest.mark.parametrize("kind", [CountsSteps, CountsRows])
@pytest.mark.parametrize(
    ("dtype", "whole"),
    [
        ("float32", False),
        ("int32", True),
        pytest.param("float32", True, marks=pytest.mark.thorough),
        pytest.param("int32", False, marks=pytest.mark.thorough),
    ],
)
def test_a_metric_counts_rows_or_steps(kind: Any, dtype: str, whole: bool) -> None:
    data = tf.data.Dataset.from_tensor_slices((X, TARGETS)).batch(30, drop_remainder=whole)

    def make() -> keras.Model:
        model = Base()
        model.build((None, 8))
        model.compile("sgd", "mse", metrics=[kind(dtype)])
        return model

    def use(model: keras.Model) -> Any:
        return [model.fit(data, epochs=2, verbose=0).history, model.evaluate(data, verbose=0)]

    same(make, use, on=EVERY)


# ---------------------------------------------------------------- state


class Statistic(keras.layers.Layer):
    """Keeps something of the batch in a variable."""

    def __init__(self, aggregation: str, of: Callable[[Any], Any]) -> None:
        super().__init__()
        self.aggregation, self.of = aggregation, of

    def build(self, shape: Any) -> None:
        self.kept = self.add_weight(
            name="kept",
            shape=(),
            initializer="zeros",
            trainable=False,
            aggregation=self.aggregation,
        )

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.kept.assign_add(self.of(x))
        return x


def keeping(aggregation: str, of: Callable[[Any], Any]) -> Callable[[], keras.Model]:
    def make() -> keras.Model:
        model = keras.Sequential(
            [keras.Input((8,)), Statistic(aggregation, of), keras.layers.Dense(2)]
        )
        model.compile("sgd", "mse")
        return model

    return make


def fit(model: keras.Model) -> Any:
    return model.fit(X, TARGETS, **FIT).history


@pytest.mark.parametrize(
    ("aggregation", "of"),
    [
        ("mean", tf.reduce_mean),
        ("sum", tf.reduce_sum),
        ("none", lambda x: 1.0),
        ("none", lambda x: tf.reduce_sum(tfdist.gather_batch(x))),
        ("only_first_replica", lambda x: 1.0),
    ],
    ids=["mean", "sum", "counter", "gathered", "first"],
)
def test_state_follows_its_declared_aggregation(aggregation: str, of: Any) -> None:
    same(keeping(aggregation, of), fit, on=EVERY, weights=2e-5 if aggregation == "sum" else WEIGHTS)


def test_rows_are_counted_where_the_graph_knows_their_number() -> None:
    """A constant of the graph then, which looks the same on all replicas."""

    class Counts(Base):
        def train_step(self, data: Any) -> Any:
            self.statistic.assign_add(tf.cast(tf.shape(data[0])[0], tf.float32))
            return super().train_step(data)

    def make() -> keras.Model:
        model = Counts()
        model.statistic = model.add_weight(
            shape=(), initializer="zeros", trainable=False, aggregation="sum"
        )
        model.compile("sgd", "mse")
        return model

    whole = tf.data.Dataset.from_tensor_slices((X, TARGETS)).batch(16, drop_remainder=True)
    outcome = on_replicas(2, make, lambda model: model.fit(whole, verbose=0).history)
    assert len(X) // 16 * 16 in [np.ravel(weight)[0] for weight in outcome.weights]


def test_state_that_differs_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    on_replicas(3, keeping("none", tf.reduce_sum), lambda m: [fit(m), fit(m)])
    told = [r.getMessage() for r in caplog.records if "differs between" in r.getMessage()]
    assert len(told) == 1
    assert "statistic" in told[0]
    assert "aggregation='mean'" in told[0]


def test_state_that_is_the_same_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> keras.Model:
        model = keras.Sequential(
            [keras.Input((8,)), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
        )
        model.add(keras.layers.Dense(2))
        model.compile(keras.optimizers.Adam(use_ema=True, ema_momentum=0.9), "mse")
        return model

    on_replicas(3, make, fit)
    assert not [r for r in caplog.records if "differs between" in r.getMessage()]


def test_what_turns_out_late_to_differ_is_known_from_the_beginning() -> None:
    """`second` is written before `first`, on which it depends, has been seen to differ."""

    class Late(Base):
        def build(self, shape: Any) -> None:
            super().build(shape)
            self.first = self.add_weight(name="first", trainable=False, initializer="zeros")
            self.second = self.add_weight(name="second", trainable=False, initializer="zeros")

        def train_step(self, data: Any) -> Any:
            loss, gradients = self.gradients_of(*data)
            self.second.assign(self.second + 2.0 * self.first)
            self.apply([g * (1.0 + self.second) for g in gradients])
            self.first.assign(tf.reduce_mean(data[0]))
            return {"loss": loss}

    outcome = on_replicas(3, *trained(Late))  # asserts that the replicas' weights agree
    assert np.isfinite(outcome.result["loss"]).all()
