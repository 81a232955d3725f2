"""Rows that are looked up once for a batch count once, whatever the number of replicas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tests.training.comparing import (
    Outcome,
    alone,
    assert_same,
    in_plain_keras,
    mirrored,
    on_strategy,
    same,
    seeded,
)
from tests.training.devices import cut_the_cpu
from tests.training.test_pipeline import TWO
from tests.training.test_pipeline import same as same_in_a_pipeline

cut_the_cpu()

ROWS, LENGTH, WIDTH = 41, 6, 4  # the last batch has 9
RNG = np.random.default_rng(0)
X = RNG.integers(0, 9, (ROWS, LENGTH)).astype("int32")
Y = RNG.normal(size=(ROWS, 1)).astype("float32")


class Positions(keras.layers.Layer):
    """Adds an embedding of each position, as Keras' own examples of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.places = keras.layers.Embedding(LENGTH + 2, WIDTH)

    def call(self, x: Any) -> Any:
        return x + self.places(self.named(x))

    def named(self, x: Any) -> Any:
        return keras.ops.arange(LENGTH)


class ByShape(Positions):
    """Of a length that nobody knows before."""

    def named(self, x: Any) -> Any:
        return tf.range(tf.shape(x)[1])


class ByTheLastSize(Positions):
    """The same, told from the other end."""

    def named(self, x: Any) -> Any:
        return tf.range(tf.shape(x)[-2])


class OfAVariable(Positions):
    """As models have them that were ported from elsewhere."""

    def build(self, shape: Any) -> None:
        self.ids = self.add_weight(
            shape=(1, LENGTH), dtype="int32", trainable=False, initializer="zeros"
        )
        self.ids.assign(np.arange(LENGTH)[None])

    def named(self, x: Any) -> Any:
        return self.ids


class Relative(Positions):
    """The same rows for several places."""

    def named(self, x: Any) -> Any:
        return np.abs(np.arange(LENGTH) - 3)


class ForEachExample(Positions):
    """The same ids for each example, but one lookup for each."""

    def named(self, x: Any) -> Any:
        return keras.ops.tile(keras.ops.arange(LENGTH)[None], (keras.ops.shape(x)[0], 1))


def compiled(
    positions: Callable[[], keras.layers.Layer] = Positions,
    length: int | None = LENGTH,
    jit_compile: bool = False,
    optimizer: Callable[[], keras.optimizers.Optimizer] = lambda: keras.optimizers.Adam(0.01),
) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((length,), dtype="int32"),
            keras.layers.Embedding(9, WIDTH),
            positions(),
            keras.layers.Dense(3, activation="tanh"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer(), "mse", jit_compile=jit_compile)
    return model


def fit(model: keras.Model) -> Any:
    return model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0).history


@pytest.mark.parametrize(
    ("positions", "length"),
    [
        (Positions, LENGTH),
        (ByShape, None),
        (ByTheLastSize, None),
        (OfAVariable, LENGTH),
        (Relative, LENGTH),
        (ForEachExample, LENGTH),
    ],
)
def test_a_lookup_of_the_batch_counts_once(
    positions: Callable[[], keras.layers.Layer], length: int | None
) -> None:
    same(lambda: compiled(positions, length), fit)


def test_lookups_in_batches_of_one_size_count_once_where_there_are_as_many() -> None:
    """A replica has as many rows as there are positions."""

    def use(model: keras.Model) -> Any:
        return model.fit(X[:36], Y[:36], batch_size=3 * LENGTH, epochs=2, verbose=0).history

    same(compiled, use)


def test_lookups_of_virtual_replicas_count_once() -> None:
    found = on_strategy(alone(), compiled, fit, virtual_replicas=3)
    assert_same(in_plain_keras(compiled, fit), found)


@pytest.mark.parametrize("replicas", [2, 3])
def test_lookups_count_once_where_slots_are_shared(replicas: int) -> None:
    plain = in_plain_keras(compiled, fit)
    with seeded():
        with mirrored(replicas).scope():
            model = compiled()
        tfdist.plug(model, shard_optimizer=True)
        found = Outcome(fit(model), [weight.numpy() for weight in model.weights], [])
    assert_same(replace(plain, optimizer=[]), found)


def test_lookups_of_a_compiled_pass_count_once() -> None:
    same(lambda: compiled(jit_compile=True), fit)


@pytest.mark.parametrize("plan", [TWO, {**TWO, "schedule": "zero_bubble"}], ids=["1f1b", "zero"])
@pytest.mark.parametrize(("positions", "length"), [(Positions, LENGTH), (ByShape, None)])
def test_lookups_of_microbatches_count_once(
    plan: dict[str, Any], positions: Callable[[], keras.layers.Layer], length: int | None
) -> None:
    same_in_a_pipeline(lambda: compiled(positions, length), fit, plan)


@pytest.mark.parametrize("schedule", ["1f1b", "zero_bubble"])
def test_constant_ids_of_each_example_of_a_microbatch_are_not_one_lookup(schedule: str) -> None:
    """All batches are of one size, and so are the ids constants, as in `tfdist.examples.gpt`."""

    def make() -> keras.Model:
        ids = keras.Input((LENGTH,), dtype="int32")
        places = keras.ops.cumsum(keras.ops.ones_like(ids), axis=1) - 1
        embedded = [keras.layers.Embedding(9, WIDTH)(one) for one in (ids, places)]
        hidden = keras.layers.Dense(3, activation="tanh")(keras.layers.Add()(embedded))
        model = keras.Model(ids, keras.layers.Dense(1)(keras.layers.Flatten()(hidden)))
        model.compile(keras.optimizers.Adam(0.01), "mse")
        return model

    def use(model: keras.Model) -> Any:
        return model.fit(X[:32], Y[:32], batch_size=16, epochs=2, verbose=0).history

    plan = {"stages": 2, "microbatches": 2, "schedule": schedule}  # as large as each other
    same_in_a_pipeline(make, use, plan)
