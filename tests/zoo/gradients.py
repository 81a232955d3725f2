"""Steps that do something to the gradients between the tape and the optimizer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.zoo.program import LABELS, PAIRS, ROWS, TARGETS, Program, X, fitted

_rng = np.random.default_rng(8)
LABELLED = _rng.integers(1, 20, (ROWS, 7))
HIDDEN = (_rng.uniform(size=(ROWS, 7)) < 0.3).astype("float32")
WORDS = np.where(HIDDEN, 0, LABELLED)


def measured(model: keras.Model, y: Any, y_pred: Any, loss: Any) -> dict[str, Any]:
    """Updates the metrics and returns their results."""
    for metric in model.metrics:
        if metric.name == "loss":
            metric.update_state(loss)
        else:
            metric.update_state(y, y_pred)
    return model.get_metrics_result()


class Network(keras.Model):
    """Two layers. Their kernels have 16 rows, as many as one of 2 replicas has of a batch."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.hidden = layers.Dense(16, activation="tanh")
        self.out = layers.Dense(outputs)

    def build(self, shape: Any) -> None:
        self.hidden.build(shape)
        self.out.build((None, 16))

    def call(self, x: Any) -> Any:
        return self.out(self.hidden(x))

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        gradients = self.changed(tape.gradient(loss, self.trainable_variables))
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return measured(self, y, y_pred, loss)

    def changed(self, gradients: list[Any]) -> list[Any]:
        return gradients


def compiled(model: keras.Model, optimizer: Any = None) -> keras.Model:
    model.compile(
        optimizer=optimizer or keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


class Clipped(Network):
    """The whole gradient is made shorter than a length that one machine's always exceeds."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients, norm = tf.clip_by_global_norm(gradients, 0.2)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {**measured(self, y, y_pred, loss), "norm": norm}


class Noisy(Network):
    """Noise on every gradient (Neelakantan et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(21)

    def changed(self, gradients: list[Any]) -> list[Any]:
        return [
            g + keras.random.normal(ops.shape(g), stddev=0.05, seed=self.seed_generator)
            for g in gradients
        ]


class Accumulating(keras.Model):
    """A functional model whose gradients are added up over `every` batches, then applied."""

    def __init__(self, every: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.every = every
        self.taken = tf.Variable(0, dtype=tf.int32, trainable=False)
        self.accumulated = [
            tf.Variable(tf.zeros(v.shape), trainable=False) for v in self.trainable_variables
        ]

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        self.taken.assign_add(1)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        for total, gradient in zip(self.accumulated, gradients, strict=True):
            total.assign_add(gradient)
        tf.cond(tf.equal(self.taken % self.every, 0), self.apply_accumulated, lambda: None)
        return measured(self, y, y_pred, loss)

    def apply_accumulated(self) -> None:
        means = [total / self.every for total in self.accumulated]
        self.optimizer.apply(means, self.trainable_variables)
        for total in self.accumulated:
            total.assign(tf.zeros_like(total))


def accumulating() -> keras.Model:
    inputs = keras.Input((8,))
    outputs = layers.Dense(3)(layers.Dense(16, activation="tanh")(inputs))
    return compiled(Accumulating(3, inputs, outputs))


class MaskedLanguage(keras.Model):
    """Words that are hidden are guessed; the loss is that of every word, not their mean.

    So the tape gives the gradient of the sum over all words of the batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedding = layers.Embedding(20, 6)
        self.hidden = layers.Dense(8, activation="tanh")
        self.out = layers.Dense(20, activation="softmax")
        self.loss_fn = keras.losses.SparseCategoricalCrossentropy(reduction=None)
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker]

    def call(self, words: Any) -> Any:
        embedded = self.embedding(words)
        return self.out(self.hidden(embedded + ops.mean(embedded, axis=1, keepdims=True)))

    def train_step(self, data: Any) -> dict[str, Any]:
        words, labels, sample_weight = data
        with tf.GradientTape() as tape:
            loss = self.loss_fn(labels, self(words, training=True), sample_weight=sample_weight)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.loss_tracker.update_state(loss, sample_weight=sample_weight)
        return {"loss": self.loss_tracker.result()}


def masked_language() -> keras.Model:
    model = MaskedLanguage()
    model.compile(optimizer=keras.optimizers.SGD(0.005))
    return model


class Surgery(Network):
    """Two tasks; of gradients that contradict each other the contradiction is taken out.

    PCGrad, Yu et al. 2020, with both projections.
    """

    def train_step(self, data: Any) -> dict[str, Any]:
        x, (y_one, y_two) = data
        with tf.GradientTape(persistent=True) as tape:
            y_pred = self(x, training=True)
            losses = [
                ops.mean(ops.square(y_pred[:, :1] - y_one)),
                ops.mean(ops.square(y_pred[:, 1:] - y_two)),
            ]
        one, two = (tape.gradient(loss, self.trainable_variables) for loss in losses)
        del tape
        changed = [
            a + b for a, b in zip(self.projected(one, two), self.projected(two, one), strict=True)
        ]
        self.optimizer.apply(changed, self.trainable_variables)
        return {"one": losses[0], "two": losses[1]}

    def projected(self, gradients: list[Any], others: list[Any]) -> list[Any]:
        pairs = list(zip(gradients, others, strict=True))
        along = ops.minimum(sum(ops.sum(a * b) for a, b in pairs), 0.0)
        square = sum(ops.sum(b * b) for b in others)
        return [a - along / square * b for a, b in pairs]


def surgery() -> keras.Model:
    model = Surgery()
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    return model


class MAML(keras.Model):
    """Looks for the weights from which one step on one task serves another one.

    The outer gradient goes through the inner one: a second derivative (Finn et al. 2017).
    """

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self.network = network
        self.loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def train_step(self, data: Any) -> dict[str, Any]:
        weights = self.network.trainable_variables
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                y_pred = self.network(data["support"], training=True)
                support_loss = self.loss_fn(data["label"], y_pred)
            gradients = inner.gradient(support_loss, weights)
            fast = [weight - 0.1 * g for weight, g in zip(weights, gradients, strict=True)]
            y_pred, _ = self.network.stateless_call(fast, [], data["query"])
            query_loss = self.loss_fn(data["label"], y_pred)
        gradients = outer.gradient(query_loss, weights)
        self.optimizer.apply(gradients, weights)
        return {"support_loss": support_loss, "query_loss": query_loss}


def maml() -> keras.Model:
    model = MAML(
        keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="tanh"), layers.Dense(3)])
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    return model


class Flat(Network):
    """A penalty on the length of the loss's gradient with respect to the weights."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                y_pred = self(x, training=True)
                loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
            gradients = inner.gradient(loss, self.trainable_variables)
            penalty = sum(ops.sum(ops.square(g)) for g in gradients)
            total = loss + 0.1 * penalty
        gradients = outer.gradient(total, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {**measured(self, y, y_pred, loss), "penalty": penalty}


class Sharpness(Network):
    """SAM (Foret et al. 2021): the gradient where the loss is largest nearby, taken back here."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        length = tf.linalg.global_norm(gradients)
        moves = [0.05 * g / (length + 1e-12) for g in gradients]
        for variable, move in zip(self.trainable_variables, moves, strict=True):
            variable.assign_add(move)
        with tf.GradientTape() as tape:
            worst = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(worst, self.trainable_variables)
        for variable, move in zip(self.trainable_variables, moves, strict=True):
            variable.assign_sub(move)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {**measured(self, y, y_pred, loss), "worst": worst}


PROGRAMS = {
    "clipping by hand": Program(lambda: compiled(Clipped()), fitted(X, LABELS)),
    "gradient noise": Program(lambda: compiled(Noisy()), fitted(X, LABELS)),
    "accumulation by hand": Program(accumulating, fitted(X, LABELS)),
    "gradient surgery": Program(surgery, fitted(X, (TARGETS, X[:, 3:5]))),
    "a loss of every word": Program(masked_language, fitted(WORDS, LABELLED, sample_weight=HIDDEN)),
    "MAML": Program(maml, fitted({"support": X, "query": PAIRS, "label": LABELS})),
    "a penalty on weights' gradients": Program(lambda: compiled(Flat()), fitted(X, LABELS)),
    "sharpness-aware minimization": Program(lambda: compiled(Sharpness()), fitted(X, LABELS)),
}
