"""Losses and states that look across the batch, made exact by a gather."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

import tfdist
from tests.zoo.program import LABELS, PAIRS, Program, X, fitted


def tower(*last: Any, size: int = 4) -> keras.Model:
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(12, activation="tanh"), *last, layers.Dense(size)]
    )


class SimSiam(keras.Model):
    """Two views that shall predict each other, batch normalization over all replicas.

    How far the codes are from having collapsed is their deviation over the batch (Chen and He
    2021, section 4.1), which the loss is asked to keep up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = tower(layers.BatchNormalization(synchronized=True))
        self.predictor = keras.Sequential(
            [keras.Input((4,)), layers.Dense(3, activation="tanh"), layers.Dense(4)]
        )
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.deviation_tracker = keras.metrics.Mean(name="deviation")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker, self.deviation_tracker]

    def compute_distance(self, predicted: Any, code: Any) -> Any:
        predicted, code = ops.normalize(predicted, axis=1), ops.normalize(code, axis=1)
        return -ops.mean(ops.sum(predicted * ops.stop_gradient(code), axis=1))

    def train_step(self, data: Any) -> dict[str, Any]:
        one, two = data
        with tf.GradientTape() as tape:
            code_one, code_two = self.encoder(one, training=True), self.encoder(two, training=True)
            predicted_one, predicted_two = self.predictor(code_one), self.predictor(code_two)
            loss = self.compute_distance(predicted_one, code_two) / 2
            loss += self.compute_distance(predicted_two, code_one) / 2
            everybody = tfdist.gather_batch(ops.normalize(code_one, axis=1))
            deviation = ops.mean(ops.std(everybody, axis=0))
            loss -= 0.1 * deviation
        variables = self.encoder.trainable_variables + self.predictor.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.loss_tracker.update_state(loss)
        self.deviation_tracker.update_state(deviation)
        return {"loss": self.loss_tracker.result(), "deviation": self.deviation_tracker.result()}


def simsiam() -> keras.Model:
    model = SimSiam()
    model.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.6))
    return model


class Retrieval(keras.Model):
    """Two towers; the other rows of the whole batch are each query's wrong answers."""

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        self.query_tower = tower()
        self.item_tower = tower()
        self.temperature = temperature

    def call(self, inputs: Any) -> Any:
        query, item = inputs
        query = ops.normalize(self.query_tower(query), axis=1)
        item = ops.normalize(self.item_tower(item), axis=1)
        return query, item

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        query, item = (tfdist.gather_batch(code) for code in y_pred)
        scores = ops.matmul(query, ops.transpose(item)) / self.temperature
        right = ops.arange(ops.shape(scores)[0])
        rows = keras.losses.sparse_categorical_crossentropy(right, scores, from_logits=True)
        columns = keras.losses.sparse_categorical_crossentropy(
            right, ops.transpose(scores), from_logits=True
        )
        return ops.mean(rows + columns) / 2


def retrieval() -> keras.Model:
    model = Retrieval()
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    return model


def use_retrieval(model: keras.Model) -> Any:
    history = fitted((X, PAIRS))(model)
    return history, model.evaluate((X, PAIRS), batch_size=32, verbose=0)


class MoCo(keras.Model):
    """Keys by a slow copy of the encoder; those of earlier batches wait in a queue."""

    def __init__(self, queue: int = 48, momentum: float = 0.9) -> None:
        super().__init__()
        self.encoder = tower()
        self.slow = tower()
        self.slow.set_weights(self.encoder.get_weights())
        self.slow.trainable = False
        self.momentum = momentum
        unit = keras.initializers.RandomNormal(stddev=0.5, seed=4)
        self.queue = self.add_weight(
            shape=(queue, 4), initializer=unit, trainable=False, name="queue"
        )
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker]

    def train_step(self, data: Any) -> dict[str, Any]:
        one, two = data
        keys = ops.stop_gradient(ops.normalize(self.slow(two), axis=1))
        with tf.GradientTape() as tape:
            queries = ops.normalize(self.encoder(one, training=True), axis=1)
            right = ops.sum(queries * keys, axis=1, keepdims=True)
            wrong = ops.matmul(queries, ops.transpose(self.queue))
            scores = ops.concatenate([right, wrong], axis=1) / 0.5
            first = ops.zeros((ops.shape(scores)[0],), "int32")
            loss = ops.mean(
                keras.losses.sparse_categorical_crossentropy(first, scores, from_logits=True)
            )
        variables = self.encoder.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        for slow, fast in zip(self.slow.weights, self.encoder.weights, strict=True):
            slow.assign(self.momentum * slow + (1 - self.momentum) * fast)
        waiting = ops.concatenate([tfdist.gather_batch(keys), self.queue], axis=0)
        self.queue.assign(waiting[: self.queue.shape[0]])
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def moco() -> keras.Model:
    model = MoCo()
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    return model


class Mixup(keras.Model):
    """Each row is mixed with another one of the whole batch, in the step."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tower(size=3)
        self.seed_generator = keras.random.SeedGenerator(11)
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker]

    def call(self, x: Any) -> Any:
        return self.network(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        x, y = tfdist.gather_batch(x), ops.one_hot(tfdist.gather_batch(y), 3)
        partner = keras.random.shuffle(ops.arange(ops.shape(x)[0]), seed=self.seed_generator)
        part = keras.random.beta((ops.shape(x)[0], 1), 0.4, 0.4, seed=self.seed_generator)
        x = part * x + (1 - part) * ops.take(x, partner, axis=0)
        y = part * y + (1 - part) * ops.take(y, partner, axis=0)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def mixup() -> keras.Model:
    model = Mixup()
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    return model


PROGRAMS = {
    "SimSiam with a gather": Program(simsiam, fitted(X, PAIRS)),
    "retrieval with in-batch negatives": Program(retrieval, use_retrieval),
    "MoCo's queue": Program(moco, fitted(X, PAIRS)),
    "mixup in the step": Program(mixup, fitted(X, LABELS)),
}
