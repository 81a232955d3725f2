"""However a step finds out how many rows there are, its noise is by row of the global batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tests.training.comparing import same

SHAPES: dict[str, Callable[[Any], Any]] = {
    "tf.shape(x)": tf.shape,
    "keras.ops.shape(x)": keras.ops.shape,
    "(tf.shape(x)[0], 4)": lambda x: (tf.shape(x)[0], 4),
    "(keras.ops.shape(x)[0], 4)": lambda x: (keras.ops.shape(x)[0], 4),
    "tf.stack": lambda x: tf.stack([tf.shape(x)[0], 4]),
    "tf.concat": lambda x: tf.concat([tf.shape(x)[:1], [4]], 0),
    "the batch twice": lambda x: (2 * tf.shape(x)[0], 4),
    "int64": lambda x: (tf.shape(x, tf.int64)[0], tf.constant(4, tf.int64)),
    "by the labels": lambda x: (tf.size(x) // 4, 4),
    "a cast": lambda x: (tf.cast(tf.cast(tf.shape(x)[0], tf.int64), tf.int32), 4),
}


class Noisy(keras.Model):
    """Learns from what it is given and noise of the same shape."""

    def __init__(self, shape: Callable[[Any], Any]) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.noise = keras.random.SeedGenerator(3)
        self.shape_of = shape

    def build(self, shape: Any) -> None:
        self.dense.build(shape)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def train_step(self, data: Any) -> Any:
        x, y = data
        drawn = keras.random.normal(self.shape_of(x), seed=self.noise)
        if "twice" in str(NAMES[self.shape_of]):
            drawn = tf.reshape(drawn, [-1, 8])[:, :4]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(x + drawn) - y))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


NAMES = {shape: name for name, shape in SHAPES.items()}


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(64, id="whole_batches"),
        pytest.param(65, id="a_partial_batch", marks=pytest.mark.thorough),
    ],
)
@pytest.mark.parametrize("name", SHAPES)
def test_noise_is_one_machines(name: str, rows: int) -> None:
    """Where all batches are whole their sizes are known when the step is traced."""
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype("float32")
    y = x.sum(axis=1, keepdims=True)

    def make() -> keras.Model:
        model = Noisy(SHAPES[name])
        model.build((None, 4))
        model.compile(keras.optimizers.SGD(0.05))
        return model

    same(make, lambda m: m.fit(x, y, 32, epochs=2, shuffle=False, verbose=0).history)


class TwoBatches(Noisy):
    """Real and generated rows one behind the other, each with noise of its own, as GANs have."""

    def joined(self, first: Any, second: Any) -> Any:
        return tf.concat([first, second], 0)

    def train_step(self, data: Any) -> Any:
        x, y = data
        both = self.joined(x, -x)
        labels = self.joined(y, y - 1)
        drawn = keras.random.normal(self.shape_of(both), seed=self.noise)
        labels += 0.5 * keras.random.uniform(self.shape_of(labels), seed=self.noise)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(both + drawn) - labels))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


class TwoBatchesStacked(TwoBatches):
    """The same, stacked and cut again."""

    def joined(self, first: Any, second: Any) -> Any:
        return tf.reshape(tf.stack([first, second]), [-1, first.shape[-1]])


class TwoBatchesAndASkip(TwoBatches):
    """The same, with what was joined beside what was computed of it."""

    def joined(self, first: Any, second: Any) -> Any:
        both = tf.concat([first, second], 0)
        return tf.concat([2.0 * both, both], 1)[:, : first.shape[-1]]


class Gathered(Noisy):
    """Noise for what all replicas have together, which they draw alike."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        everybodys = tfdist.gather_batch(x)
        drawn = keras.random.normal(self.shape_of(everybodys), seed=self.noise)
        moved = tfdist.own_rows(everybodys + drawn)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(moved) - y))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


class CutRows(Noisy):
    """Rows that are cut into two."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        halves = tf.reshape(x, [-1, 2])
        drawn = keras.random.normal(self.shape_of(halves), seed=self.noise)
        with tf.GradientTape() as tape:
            moved = tf.reshape(halves + drawn, [-1, 4])
            loss = tf.reduce_mean(tf.square(self(moved) - y))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


@pytest.mark.parametrize("rows", [64, 65], ids=["whole_batches", "a_partial_batch"])
@pytest.mark.parametrize("shape", [tf.shape, keras.ops.shape], ids=["tf", "keras"])
@pytest.mark.parametrize(
    "kind", [TwoBatches, TwoBatchesStacked, TwoBatchesAndASkip, Gathered, CutRows]
)
def test_noise_of_more_rows_than_a_batch(kind: type[Noisy], shape: Any, rows: int) -> None:
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype("float32")
    y = x.sum(axis=1, keepdims=True)

    def make() -> keras.Model:
        model = kind(shape)
        model.build((None, 4))
        model.compile(keras.optimizers.SGD(0.05))
        return model

    same(make, lambda m: m.fit(x, y, 32, epochs=2, shuffle=False, verbose=0).history)
