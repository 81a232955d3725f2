"""Models as people publish them: classes with steps, losses and methods of their own.

Noise is made from the data, so that it is the same however many replicas draw it.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from tests.training.models import X


def noise_for(rows: Any, size: int) -> Any:
    """Numbers that look random and follow from each row alone."""
    return tf.math.sin(37.0 * rows[:, :size] + tf.range(size, dtype=tf.float32))


def generator() -> keras.Model:
    return keras.Sequential(
        [keras.Input((3,)), layers.Dense(8, "tanh"), layers.Dense(8)], name="generator"
    )


def discriminator() -> keras.Model:
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(6, "tanh"), layers.Dense(1)], name="discriminator"
    )


class Gan(keras.Model):
    """Two networks, an optimizer for each, no `call`, its own `compile`, `metrics` and steps."""

    def __init__(self, discriminator: keras.Model, generator: keras.Model) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.d_loss_tracker = keras.metrics.Mean(name="d_loss")
        self.g_loss_tracker = keras.metrics.Mean(name="g_loss")

    def compile(self, d_optimizer: Any, g_optimizer: Any, loss_fn: Any) -> None:
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn

    @property
    def metrics(self) -> list[Any]:
        return [self.d_loss_tracker, self.g_loss_tracker]

    def train_step(self, real: Any) -> Any:
        noise = noise_for(real, 3)
        fake = self.generator(noise)
        both = ops.concatenate([fake, real], axis=0)
        labels = ops.concatenate([ops.ones_like(fake[:, :1]), ops.zeros_like(real[:, :1])], axis=0)
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(both))
        grads = tape.gradient(d_loss, self.discriminator.trainable_weights)
        self.d_optimizer.apply_gradients(
            zip(grads, self.discriminator.trainable_weights, strict=True)
        )
        with tf.GradientTape() as tape:
            judged = self.discriminator(self.generator(-noise))
            g_loss = self.loss_fn(ops.zeros_like(judged), judged)
        grads = tape.gradient(g_loss, self.generator.trainable_weights)
        self.g_optimizer.apply_gradients(zip(grads, self.generator.trainable_weights, strict=True))
        self.d_loss_tracker.update_state(d_loss)
        self.g_loss_tracker.update_state(g_loss)
        return {"d_loss": self.d_loss_tracker.result(), "g_loss": self.g_loss_tracker.result()}


def compiled_gan(gan: Gan, optimizer: Any = keras.optimizers.SGD) -> Gan:
    gan.compile(
        d_optimizer=optimizer(0.05, momentum=0.9),
        g_optimizer=optimizer(0.02, momentum=0.9),
        loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return gan


def unbuilt_gan() -> keras.Model:
    """Nothing is built: the layers are made at the first step."""
    first = keras.Sequential([layers.Dense(6, "tanh"), layers.Dense(1)])
    second = keras.Sequential([layers.Dense(8, "tanh"), layers.Dense(8)])
    return compiled_gan(Gan(first, second))


class Sampling(layers.Layer):
    def call(self, inputs: Any) -> Any:
        mean, log_var, x = inputs
        return mean + ops.exp(0.5 * log_var) * noise_for(x, 2)


class Vae(keras.Model):
    """Keras' own example: an encoder, a decoder, three trackers, no `call`."""

    def __init__(self) -> None:
        super().__init__()
        inputs = keras.Input((8,))
        hidden = layers.Dense(6, "tanh")(inputs)
        mean, log_var = layers.Dense(2)(hidden), layers.Dense(2)(hidden)
        z = Sampling()([mean, log_var, inputs])
        self.encoder = keras.Model(inputs, [mean, log_var, z])
        self.decoder = keras.Sequential([layers.Dense(6, "tanh"), layers.Dense(8)])
        self.total = keras.metrics.Mean(name="total_loss")
        self.reconstruction = keras.metrics.Mean(name="reconstruction_loss")
        self.kl = keras.metrics.Mean(name="kl_loss")

    @property
    def metrics(self) -> list[Any]:
        return [self.total, self.reconstruction, self.kl]

    def losses_of(self, data: Any) -> tuple[Any, Any, Any]:
        mean, log_var, z = self.encoder(data)
        reconstruction = ops.mean(ops.sum((data - self.decoder(z)) ** 2, axis=1))
        kl = -0.5 * (1 + log_var - ops.square(mean) - ops.exp(log_var))
        kl = ops.mean(ops.sum(kl, axis=1))
        return reconstruction + kl, reconstruction, kl

    def note(self, values: tuple[Any, Any, Any]) -> Any:
        for metric, value in zip(self.metrics, values, strict=True):
            metric.update_state(value)
        return {
            "loss": self.total.result(),
            "reconstruction_loss": self.reconstruction.result(),
            "kl_loss": self.kl.result(),
        }

    def train_step(self, data: Any) -> Any:
        with tf.GradientTape() as tape:
            values = self.losses_of(data)
        grads = tape.gradient(values[0], self.trainable_weights)
        self.optimizer.apply_gradients(zip(grads, self.trainable_weights, strict=True))
        return self.note(values)

    def test_step(self, data: Any) -> Any:
        return self.note(self.losses_of(data))


def vae() -> keras.Model:
    model = Vae()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    return model


class Prepares(keras.Model):
    """As a task of keras_hub: everybody gives raw numbers, and its own methods prepare them."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3, "softmax")

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def prepared(self, x: Any) -> Any:
        return x / 10.0

    def fit(self, x: Any = None, y: Any = None, validation_data: Any = None, **given: Any) -> Any:
        return super().fit(x=self.prepared(x), y=y, validation_data=validation_data, **given)

    def evaluate(self, x: Any = None, y: Any = None, **given: Any) -> Any:
        # As keras_hub does: the validation data of `fit` come here as they were given.
        given.pop("_use_cached_eval_dataset", None)
        return super().evaluate(x=self.prepared(x), y=y, **given)

    def predict(self, x: Any = None, **given: Any) -> Any:
        return super().predict(self.prepared(x), **given)

    def train_on_batch(self, x: Any, y: Any = None, **given: Any) -> Any:
        return super().train_on_batch(self.prepared(x), y, **given)


def prepares() -> keras.Model:
    model = Prepares()
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


RAW = 10.0 * X
