"""Faults in a program around the model: its data, its randomness, its ranks, its callbacks."""

from __future__ import annotations

import os
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import tfdist
from tests.verify.fault import (
    BATCH,
    LABELS,
    ROWS,
    TARGETS,
    TEXTS,
    Fault,
    X,
    classifier,
    compiled,
    fit,
    rank,
    regressor,
    workers,
)


def unseeded_shuffle() -> None:
    order = np.random.default_rng().permutation(ROWS)
    fit(compiled(classifier()), X[order], LABELS[order])


def shuffled_by_the_clock() -> None:
    data = tf.data.Dataset.from_tensor_slices((X, LABELS))
    seed = time.time_ns() % 100_000
    fit(compiled(classifier()), data.shuffle(ROWS, seed=seed).batch(BATCH), None, batch_size=None)


def seeded_by_process() -> None:
    keras.utils.set_random_seed(os.getpid())
    fit(compiled(classifier()))


def noise_of_no_seed() -> None:
    x = X + 0.01 * np.random.default_rng().normal(size=X.shape).astype("float32")
    fit(compiled(classifier()), x)


def order_of_a_set() -> None:
    vocabulary = list({word for text in TEXTS for word in text.split()})
    places = {word: i for i, word in enumerate(vocabulary)}
    words = np.array([[places[word] for word in text.split()] for text in TEXTS])
    model = keras.Sequential(
        [layers.Embedding(len(places), 4), layers.GlobalAveragePooling1D(), layers.Dense(3)]
    )
    fit(compiled(model), words)


def shard_read_twice() -> None:
    def part(context: tf.distribute.InputContext) -> tf.data.Dataset:
        size = context.get_per_replica_batch_size(BATCH)
        return tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(size)

    strategy = tfdist.strategy()
    with strategy.scope():
        model = compiled(classifier())
    tfdist.plug(model)
    model.fit(part, epochs=2, verbose=0)


def own_shard() -> None:
    x, y = X[rank() :: workers()], LABELS[rank() :: workers()]
    fit(compiled(classifier()), x, y)


def own_shard_of_a_dataset() -> None:
    data = tf.data.Dataset.from_tensor_slices((X, LABELS)).shard(workers(), rank())
    fit(compiled(classifier()), data.batch(BATCH), None, batch_size=None)


def batch_by_workers() -> None:
    fit(compiled(classifier()), batch_size=16 * workers())


def rate_by_workers() -> None:
    fit(compiled(classifier(), rate=0.05 * workers()))


def loss_by_rank() -> None:
    fit(regressor("mse" if rank() == 0 else "mae"), y=TARGETS)


def weights_by_rank() -> None:
    model = compiled(classifier())
    if rank() == 1:
        model.layers[0].kernel.assign(model.layers[0].kernel * 1.01)
    fit(model)


class Prune(keras.callbacks.Callback):
    """Sets small weights to zero at the end of an epoch, on the chief."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if tfdist.is_chief():
            for variable in self.model.trainable_variables:
                value = variable.numpy()
                variable.assign(np.where(abs(value) < 0.2, 0.0, value))


def weights_on_the_chief() -> None:
    fit(compiled(classifier()), callbacks=[Prune()])


class NoisyRate(keras.callbacks.Callback):
    """Draws the next rate from what no seed fixes."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = np.random.default_rng()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = 0.1 * self.draws.uniform(0.5, 1.0)


def rate_of_no_seed() -> None:
    fit(compiled(classifier()), callbacks=[NoisyRate()])


class ScaledDecay(keras.callbacks.Callback):
    """Halves the rate once a worker's share of the steps is over."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (batch + 1) % max(1, 2 // workers()) == 0:
            self.model.optimizer.learning_rate = 0.7 * self.model.optimizer.learning_rate


def decay_by_workers() -> None:
    fit(compiled(classifier()), callbacks=[ScaledDecay()])


def validation_by_rank() -> None:
    x, y = X[rank() :: workers()], LABELS[rank() :: workers()]
    fit(compiled(classifier()), validation_data=(x, y))


FAULTS = {
    "unseeded shuffle": Fault(
        unseeded_shuffle, "numbers that no seed fixes", "default_rng().permutation of the data"
    ),
    "a shuffle by the clock": Fault(
        shuffled_by_the_clock, "numbers that no seed fixes", "shuffle(seed=time.time_ns())"
    ),
    "seeds by process": Fault(
        seeded_by_process, "numbers that no seed fixes", "set_random_seed(os.getpid())"
    ),
    "noise on the data": Fault(
        noise_of_no_seed, "numbers that no seed fixes", "data augmented by an unseeded generator"
    ),
    "the order of a set": Fault(
        order_of_a_set, "the order of a set", "a vocabulary from list(set(words))"
    ),
    "a shard read twice": Fault(
        shard_read_twice, "rows read twice", "an input function that shares nothing out"
    ),
    "a shard of one's own": Fault(own_shard, "data shared out by the program", "x[rank::workers]"),
    "a dataset's shard of one's own": Fault(
        own_shard_of_a_dataset, "data shared out by the program", "dataset.shard(workers, rank)"
    ),
    "a batch by the workers": Fault(
        batch_by_workers, "a batch that grows with the workers", "batch_size=16 * workers"
    ),
    "a rate by the workers": Fault(
        rate_by_workers, "the number of workers", "a learning rate times the number of workers"
    ),
    "a loss by the rank": Fault(loss_by_rank, "a branch on the rank", "another loss on worker 1"),
    "weights by the rank": Fault(
        weights_by_rank, "a branch on the rank", "initial weights changed on worker 1"
    ),
    "weights changed on the chief": Fault(
        weights_on_the_chief, "callback Prune", "a callback that prunes on the chief"
    ),
    "a rate of no seed": Fault(
        rate_of_no_seed, "callback NoisyRate", "a callback that draws the learning rate"
    ),
    "a decay by the workers": Fault(
        decay_by_workers, "callback ScaledDecay", "a schedule in steps of each worker"
    ),
    "a validation by the rank": Fault(
        validation_by_rank, "data shared out by the program", "validation_data[rank::workers]"
    ),
}
