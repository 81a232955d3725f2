"""Models that parameter servers train in step, and their data."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

__all__ = [
    "REFUSED",
    "SAME",
    "X",
    "Y",
    "draws",
    "fails",
    "fit",
    "made",
    "network",
    "unbuilt",
]

_RNG = np.random.default_rng(8)
X = _RNG.normal(size=(203, 12)).astype("float32")
Y = _RNG.integers(0, 3, 203)
BATCH = 16


def made(make: Any, scope: AbstractContextManager[Any]) -> keras.Model:
    """A model, made in the scope of a strategy."""
    keras.utils.set_random_seed(3)
    with scope:
        model: keras.Model = make()
    return model


def fit(model: keras.Model, **settings: Any) -> dict[str, list[float]]:
    """The history of two epochs; the last batch has 11 rows."""
    history = model.fit(X, Y, BATCH, shuffle=False, verbose=0, **settings).history
    return {name: [float(one) for one in values] for name, values in history.items()}


class MovingMean(layers.Layer):
    """Subtracts a moving mean of what it has seen, and counts batches."""

    def build(self, shape: Any) -> None:
        self.mean = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False)
        self.batches = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="int32"
        )

        counter = {"shape": (), "initializer": "zeros", "trainable": False, "aggregation": "sum"}
        self.rows = self.add_weight(dtype="int32", **counter)
        self.examples = self.add_weight(**counter)

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.rows.assign_add(tf.shape(x)[0])
            self.examples.assign_add(tf.cast(tf.shape(x)[0], tf.float32))
            self.mean.assign(0.9 * self.mean + 0.1 * tf.reduce_mean(x, 0))
            self.batches.assign_add(1)
        return x - tf.stop_gradient(tf.convert_to_tensor(self.mean)) * 0.0


def _loss() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def stepping(kind: type[keras.Sequential], *between: layers.Layer) -> keras.Model:
    """A network whose class has a step of its own."""
    model = kind([keras.Input((12,)), *between, layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.1))
    return model


def network() -> keras.Model:
    """Adam with a schedule and clipping of all gradients together; weights decay."""
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, 10, 0.9)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            MovingMean(),
            layers.Dense(16, "relu", kernel_regularizer="l2"),
            layers.Dense(3),
        ]
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=0.3)
    model.compile(optimizer, _loss(), metrics=["accuracy"])
    return model


def averaged() -> keras.Model:
    """SGD with momentum, constrained weights, and a moving average of weights."""
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, "tanh", kernel_constraint=keras.constraints.MaxNorm(0.8)),
            layers.Dense(3),
        ]
    )
    optimizer = keras.optimizers.SGD(0.2, momentum=0.9, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, _loss(), metrics=["accuracy"])
    return model


def looking_up(scale: float, ids: int, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    """An embedding of the rows' scaled numbers."""
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Lambda(lambda x: tf.cast(x * scale, tf.int32) % ids),
            layers.Embedding(ids, 8),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )
    model.compile(optimizer, _loss(), metrics=["accuracy"])
    return model


def looked_up() -> keras.Model:
    """An embedding of 320 KB, which is not sharded here."""
    return looking_up(1000.0, 10_000, keras.optimizers.SGD(0.5, momentum=0.9))


def often() -> keras.Model:
    """An embedding whose ids occur many times, which Adam's squares are of, each by itself."""
    return looking_up(3.0, 7, keras.optimizers.Adam(0.05, clipnorm=0.1))


def summed() -> keras.Model:
    """A loss that is a sum over the rows."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    model = keras.Sequential([keras.Input((12,)), layers.Dense(3, kernel_regularizer="l2")])
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
    return model


class Tracked(keras.Sequential):
    """Keras' examples' way: a metric of scalars, and a loss over the whole batch's size."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.tracker = keras.metrics.Mean("tracked")

    @property
    def metrics(self) -> list[Any]:
        return [self.tracker]

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            each = keras.losses.sparse_categorical_crossentropy(y, self(x), from_logits=True)
            loss = tf.nn.compute_average_loss(each)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.tracker.update_state(loss)
        return {"tracked": self.tracker.result()}


def tracked() -> keras.Model:
    """See `Tracked`."""
    return stepping(Tracked)


class OwnStep(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = _loss()(y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"own": loss, "count": tf.constant(7)}


def own_step() -> keras.Model:
    """A `train_step` of one's own, with a log that is a mean over rows, and one that is none."""
    return stepping(OwnStep)


class Penalized(keras.Sequential):
    """Keeps the slopes of its outputs by the inputs near 1, as critics of GANs do."""

    takes_mean = False

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(x)
                scores = self(x, training=True)
                whole = tf.reduce_mean(scores) * 8.0 if self.takes_mean else scores
            slopes = inner.gradient(whole, x)
            penalty = tf.reduce_mean((tf.norm(slopes, axis=-1) - 1.0) ** 2)
            loss = _loss()(y, scores) + 0.1 * penalty
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"own": loss}


def penalized() -> keras.Model:
    """A gradient of outputs by inputs within a step, and one of their sum."""
    return stepping(Penalized, layers.Dense(6, "tanh"))


class PenalizedMean(Penalized):
    takes_mean = True


def penalized_mean() -> keras.Model:
    """The same of a mean, whose slopes are by the whole batch's rows."""
    return stepping(PenalizedMean, layers.Dense(6, "tanh"))


class ReadsAfter(OwnStep):
    def train_step(self, data: Any) -> Any:
        logs = super().train_step(data)
        return {**logs, "norm": tf.norm(tf.convert_to_tensor(self.trainable_variables[0]))}


def reads_after() -> keras.Model:
    """A step that looks at the weights that it has updated."""
    return stepping(ReadsAfter)


class Unbuilt(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        self.optimizer.apply([tf.zeros_like(v) for v in self.trainable_variables])
        return {}


def unbuilt() -> keras.Model:
    """An optimizer that is not told what it trains, as Keras refuses."""
    return stepping(Unbuilt)


SAME = (
    *(network, averaged, looked_up, often, summed, tracked),
    *(own_step, penalized, penalized_mean),
)


class Draws(OwnStep):
    def train_step(self, data: Any) -> Any:
        logs = super().train_step(data)
        drawn = keras.random.uniform((), seed=self.layers[0].seed_generator)
        return {**logs, "drawn": drawn, "squared": drawn**2, "other": keras.random.uniform(())}


def draws() -> keras.Model:
    """A step that draws a number by a seed that the model keeps, and tells it."""
    return stepping(Draws, layers.Dropout(0.5, seed=4))


class First(layers.Layer):
    """The first step of a sequence, with its mask."""

    def call(self, x: Any) -> Any:
        return x[:, 0]

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        del inputs
        return previous_mask[:, 0]


def masked() -> keras.Model:
    """A loss over the rows that a mask leaves."""
    steps = [keras.Input((12,)), layers.Reshape((12, 1)), layers.Masking(0.0)]
    model = keras.Sequential([*steps, First(), layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.1), _loss())
    return model


def normalized() -> keras.Model:
    """A layer that assigns to a weight which is trained."""
    dense = layers.SpectralNormalization(layers.Dense(3))
    model = keras.Sequential([keras.Input((12,)), dense])
    model.compile(keras.optimizers.SGD(0.1), _loss())
    return model


class WarmsUp(OwnStep):
    def train_step(self, data: Any) -> Any:
        self.optimizer.learning_rate.assign(0.5)
        return super().train_step(data)


def warms_up() -> keras.Model:
    """A step that sets the learning rate."""
    return stepping(WarmsUp)


def by_loss(loss: Any) -> keras.Model:
    """A network with some loss of one's own."""
    model = keras.Sequential([keras.Input((12,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def own_sum() -> keras.Model:
    """A loss of one's own that is a sum over the rows."""
    return by_loss(lambda y, p: tf.reduce_sum((p[:, :1] - tf.cast(y, p.dtype)) ** 2))


def no_number() -> keras.Model:
    """A loss without a reduction."""
    return by_loss(keras.losses.MeanSquaredError(reduction=None))


class TellsSums(OwnStep):
    def train_step(self, data: Any) -> Any:
        return {**super().train_step(data), "sum": tf.reduce_sum(data[0])}


def tells_sums() -> keras.Model:
    """A step whose log is a sum over the rows."""
    return stepping(TellsSums)


class DrawsAnew(OwnStep):
    def train_step(self, data: Any) -> Any:
        x, y = data
        return super().train_step((x + tf.random.normal(tf.shape(x)), y))


def draws_anew() -> keras.Model:
    """A step with noise that nobody can draw again."""
    return stepping(DrawsAnew)


class Fails(OwnStep):
    def train_step(self, data: Any) -> Any:
        tf.debugging.assert_less(tf.reduce_max(data[0]), 1e6, "not to be met")
        return super().train_step(data)


def fails() -> keras.Model:
    """A step that fails for large numbers."""
    return stepping(Fails)


class Gan(OwnStep):
    def train_step(self, data: Any) -> Any:
        super().train_step(data)
        return super().train_step(data)


def gan() -> keras.Model:
    """Two updates in a step."""
    return stepping(Gan)


class Untrained(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        return {"own": tf.reduce_mean(self(data[0]))}


def untrained() -> keras.Model:
    """No update in a step."""
    return stepping(Untrained)


REFUSED = (
    draws_anew,
    gan,
    masked,
    no_number,
    normalized,
    own_sum,
    reads_after,
    tells_sums,
    untrained,
    warms_up,
)
