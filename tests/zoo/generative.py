"""Models that make examples: two autoencoders, two kinds of adversaries."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

import tfdist
from tests.zoo.program import IMAGES, Program, fitted

LATENT = 3


class Sampling(layers.Layer):
    """Draws a code from its mean and the logarithm of its variance."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs: Any) -> Any:
        mean, log_variance = inputs
        batch, size = ops.shape(mean)[0], ops.shape(mean)[1]
        noise = keras.random.normal(shape=(batch, size), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_variance) * noise


class VAE(keras.Model):
    """A variational autoencoder: a step of its own, and no `call`."""

    def __init__(self, encoder: keras.Model, decoder: keras.Model) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.rebuilt_loss_tracker = keras.metrics.Mean(name="rebuilt_loss")
        self.kl_loss_tracker = keras.metrics.Mean(name="kl_loss")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.total_loss_tracker, self.rebuilt_loss_tracker, self.kl_loss_tracker]

    def train_step(self, data: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            mean, log_variance, code = self.encoder(data)
            each = keras.losses.binary_crossentropy(data, self.decoder(code))
            rebuilt_loss = ops.mean(ops.sum(each, axis=(1, 2)))
            kl = -0.5 * (1 + log_variance - ops.square(mean) - ops.exp(log_variance))
            kl_loss = ops.mean(ops.sum(kl, axis=1))
            total_loss = rebuilt_loss + kl_loss
        gradients = tape.gradient(total_loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.total_loss_tracker.update_state(total_loss)
        self.rebuilt_loss_tracker.update_state(rebuilt_loss)
        self.kl_loss_tracker.update_state(kl_loss)
        return {
            "loss": self.total_loss_tracker.result(),
            "rebuilt_loss": self.rebuilt_loss_tracker.result(),
            "kl_loss": self.kl_loss_tracker.result(),
        }


def vae() -> keras.Model:
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(images)
    x = layers.Dense(8, activation="relu")(layers.Flatten()(x))
    mean, log_variance = layers.Dense(LATENT)(x), layers.Dense(LATENT)(x)
    encoder = keras.Model(images, [mean, log_variance, Sampling()([mean, log_variance])])
    decoder = keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(4 * 4 * 4, activation="relu"),
            layers.Reshape((4, 4, 4)),
            layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid"),
        ]
    )
    model = VAE(encoder, decoder)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    return model


def generator() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(4 * 4 * 4),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Reshape((4, 4, 4)),
            layers.Conv2DTranspose(4, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ],
        name="generator",
    )


def discriminator(*between: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            *between,
            layers.Dense(1),
        ],
        name="discriminator",
    )


class GAN(keras.Model):
    """Two adversaries, each with an optimizer of its own, compiled by a `compile` of its own.

    The discriminator sees what was made and what is real as one batch of twice the rows, with
    noise on the labels and dropout inside.
    """

    def __init__(self, discriminator: keras.Model, generator: keras.Model) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.d_loss_tracker = keras.metrics.Mean(name="d_loss")
        self.g_loss_tracker = keras.metrics.Mean(name="g_loss")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.d_loss_tracker, self.g_loss_tracker]

    def compile(self, d_optimizer: Any, g_optimizer: Any, loss_fn: Any) -> None:
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn

    def train_step(self, real_images: Any) -> dict[str, Any]:
        batch_size = ops.shape(real_images)[0]
        latent = keras.random.normal(shape=(batch_size, LATENT), seed=self.seed_generator)
        made = self.generator(latent)
        images = ops.concatenate([made, real_images], axis=0)
        labels = ops.concatenate([ops.ones((batch_size, 1)), ops.zeros((batch_size, 1))], axis=0)
        labels += 0.05 * keras.random.uniform(ops.shape(labels), seed=self.seed_generator)
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(images, training=True))
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply(tape.gradient(d_loss, weights), weights)

        latent = keras.random.normal(shape=(batch_size, LATENT), seed=self.seed_generator)
        misleading = ops.zeros((batch_size, 1))
        with tf.GradientTape() as tape:
            g_loss = self.loss_fn(misleading, self.discriminator(self.generator(latent)))
        weights = self.generator.trainable_weights
        self.g_optimizer.apply(tape.gradient(g_loss, weights), weights)

        self.d_loss_tracker.update_state(d_loss)
        self.g_loss_tracker.update_state(g_loss)
        return {"d_loss": self.d_loss_tracker.result(), "g_loss": self.g_loss_tracker.result()}


def dcgan() -> keras.Model:
    model = GAN(discriminator(layers.Dropout(0.2, seed=5)), generator())
    model.compile(
        d_optimizer=keras.optimizers.Adam(3e-4),
        g_optimizer=keras.optimizers.Adam(3e-4),
        loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


class WGAN(keras.Model):
    """Wasserstein adversaries with a penalty on the gradient of the critic's inputs."""

    def __init__(self, discriminator: keras.Model, generator: keras.Model) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.d_steps = 2
        self.gp_weight = 10.0
        self.seed_generator = keras.random.SeedGenerator(1337)

    def compile(self, d_optimizer: Any, g_optimizer: Any, d_loss_fn: Any, g_loss_fn: Any) -> None:
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.d_loss_fn = d_loss_fn
        self.g_loss_fn = g_loss_fn

    def gradient_penalty(self, batch_size: Any, real_images: Any, fake_images: Any) -> Any:
        alpha = keras.random.uniform((batch_size, 1, 1, 1), seed=self.seed_generator)
        between = real_images + alpha * (fake_images - real_images)
        with tf.GradientTape() as tape:
            tape.watch(between)
            scores = self.discriminator(between, training=True)
        gradients = tape.gradient(scores, [between])[0]
        norm = ops.sqrt(ops.sum(ops.square(gradients), axis=[1, 2, 3]))
        return ops.mean((norm - 1.0) ** 2)

    def train_step(self, real_images: Any) -> dict[str, Any]:
        batch_size = ops.shape(real_images)[0]
        for _ in range(self.d_steps):
            latent = keras.random.normal((batch_size, LATENT), seed=self.seed_generator)
            with tf.GradientTape() as tape:
                fake_images = self.generator(latent, training=True)
                d_cost = self.d_loss_fn(
                    real=self.discriminator(real_images, training=True),
                    fake=self.discriminator(fake_images, training=True),
                )
                penalty = self.gradient_penalty(batch_size, real_images, fake_images)
                d_loss = d_cost + penalty * self.gp_weight
            weights = self.discriminator.trainable_variables
            gradients = tape.gradient(d_loss, weights)
            self.d_optimizer.apply_gradients(zip(gradients, weights, strict=True))

        latent = keras.random.normal((batch_size, LATENT), seed=self.seed_generator)
        with tf.GradientTape() as tape:
            scores = self.discriminator(self.generator(latent, training=True), training=True)
            g_loss = self.g_loss_fn(scores)
        weights = self.generator.trainable_variables
        gradients = tape.gradient(g_loss, weights)
        self.g_optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return {"d_loss": d_loss, "g_loss": g_loss}


def wgan_gp() -> keras.Model:
    model = WGAN(discriminator(), generator())
    model.compile(
        d_optimizer=keras.optimizers.SGD(0.01),
        g_optimizer=keras.optimizers.SGD(0.01),
        d_loss_fn=lambda real, fake: ops.mean(fake) - ops.mean(real),
        g_loss_fn=lambda fake: -ops.mean(fake),
    )
    return model


class VectorQuantizer(layers.Layer):
    """The nearest entry of a codebook, which follows the mean of what it stands for.

    The codebook is no weight that a gradient moves: counts and sums of the whole batch do, as
    exponential moving averages (van den Oord et al. 2017, appendix A.1).
    """

    def __init__(self, entries: int, size: int, decay: float = 0.9) -> None:
        super().__init__()
        self.entries = entries
        self.decay = decay
        uniform = keras.initializers.RandomUniform(-1, 1, seed=3)
        self.codebook = self.add_weight(shape=(entries, size), initializer=uniform, trainable=False)
        self.counts = self.add_weight(shape=(entries,), initializer="ones", trainable=False)
        self.sums = self.add_weight(shape=(entries, size), initializer="zeros", trainable=False)
        self.sums.assign(self.codebook)

    def call(self, x: Any, training: bool = False) -> Any:
        chosen = self.nearest(x)
        quantized = ops.take(self.codebook, chosen, axis=0)
        self.add_loss(0.25 * ops.mean(ops.square(ops.stop_gradient(quantized) - x)))
        if training:
            self.follow(ops.stop_gradient(x))
        return x + ops.stop_gradient(quantized - x)

    def nearest(self, x: Any) -> Any:
        apart = ops.sum(ops.square(x[..., None, :] - self.codebook), axis=-1)
        return ops.argmin(apart, axis=-1)

    def follow(self, x: Any) -> None:
        batch = tfdist.gather_batch(x)
        which = ops.one_hot(self.nearest(batch), self.entries)
        counts = ops.sum(which, axis=(0, 1, 2))
        sums = ops.einsum("bhwe,bhwd->ed", which, batch)
        self.counts.assign(self.decay * self.counts + (1 - self.decay) * counts)
        self.sums.assign(self.decay * self.sums + (1 - self.decay) * sums)
        self.codebook.assign(self.sums / (self.counts[:, None] + 1e-5))


def vq_vae() -> keras.Model:
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(images)
    x = VectorQuantizer(6, 2)(layers.Conv2D(2, 1)(x))
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(x)
    model = keras.Model(images, layers.Conv2D(1, 3, padding="same")(x))
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    return model


PROGRAMS = {
    "VAE": Program(vae, fitted(IMAGES)),
    "DCGAN": Program(dcgan, fitted(IMAGES)),
    "WGAN-GP": Program(wgan_gp, fitted(IMAGES)),
    "VQ-VAE": Program(vq_vae, fitted(IMAGES, IMAGES)),
}
