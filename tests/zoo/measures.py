"""Losses, metrics and layers with a state or with random numbers, under Keras' own step."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tests.zoo.program import FIT, LABELS, TARGETS, Program, X, fitted


def network(*between: Any, outputs: int = 3) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(8, activation="tanh"),
            *between,
            layers.Dense(outputs),
        ]
    )


def compiled(model: keras.Model, *metrics: Any) -> keras.Model:
    model.compile(
        optimizer=keras.optimizers.SGD(0.2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", *metrics],
    )
    return model


class Confusion(keras.metrics.Metric):
    """Counts every pair of a right and a predicted class; its result is made of all of them."""

    def __init__(self, classes: int, name: str = "worst_recall") -> None:
        super().__init__(name=name)
        self.classes = classes
        self.table = self.add_weight(shape=(classes, classes), initializer="zeros", name="table")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        right = ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), self.classes)
        found = ops.one_hot(ops.argmax(y_pred, axis=-1), self.classes)
        self.table.assign_add(ops.matmul(ops.transpose(right), found))

    def result(self) -> Any:
        return ops.min(ops.diagonal(self.table) / (ops.sum(self.table, axis=1) + 1e-7))


class Perplexity(keras.metrics.Metric):
    """Sums a loss of Keras' over all examples and divides by their number at the end."""

    def __init__(self, name: str = "perplexity") -> None:
        super().__init__(name=name)
        self.entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")
        self.count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.total.assign_add(self.entropy(y_true, y_pred))
        self.count.assign_add(ops.cast(ops.shape(y_pred)[0], "float32"))

    def result(self) -> Any:
        return ops.exp(self.total / self.count)


def use_scored(model: keras.Model) -> Any:
    history = model.fit(X, LABELS, **FIT, validation_split=0.2).history
    return history, model.evaluate(X, LABELS, batch_size=32, verbose=0)


def several_outputs() -> keras.Model:
    inputs = keras.Input((8,))
    x = layers.Dense(8, activation="tanh")(inputs)
    label, value = layers.Dense(3, name="label")(x), layers.Dense(1, name="value")(x)
    model = keras.Model(inputs, {"label": label, "value": value})
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss={
            "label": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "value": keras.losses.MeanAbsoluteError(reduction="sum"),
        },
        loss_weights={"label": 1.0, "value": 0.05},
        metrics={"label": ["accuracy"], "value": ["mse", keras.metrics.R2Score()]},
    )
    return model


def use_several_outputs(model: keras.Model) -> Any:
    targets = {"label": LABELS, "value": TARGETS}
    validation = (X[:50], {name: target[:50] for name, target in targets.items()})
    history = model.fit(X, targets, **FIT, validation_data=validation).history
    return history, model.predict(X, batch_size=32, verbose=0)


class LogisticEndpoint(layers.Layer):
    """A layer that is given the targets, adds the loss and keeps a metric; nothing is compiled."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)
        self.accuracy = keras.metrics.BinaryAccuracy(name="endpoint_accuracy", threshold=0.0)

    def call(self, targets: Any, logits: Any) -> Any:
        self.add_loss(self.loss_fn(targets, logits))
        self.accuracy.update_state(targets, logits)
        return ops.sigmoid(logits)


def added_loss() -> keras.Model:
    inputs, targets = keras.Input((8,), name="x"), keras.Input((1,), name="y")
    hidden = layers.Dense(8, activation="tanh", activity_regularizer="l2")(inputs)
    model = keras.Model([inputs, targets], LogisticEndpoint()(targets, layers.Dense(1)(hidden)))
    model.compile(optimizer=keras.optimizers.SGD(0.2))
    return model


def dropout() -> keras.Model:
    return compiled(
        network(
            layers.Dropout(0.3, seed=1),
            layers.Dense(8, activation="relu"),
            layers.GaussianDropout(0.2, seed=2),
            layers.GaussianNoise(0.1, seed=3),
            layers.AlphaDropout(0.1, seed=4),
        )
    )


def dropout_with_global_seed() -> keras.Model:
    return compiled(network(layers.Dropout(0.5)))


class Centred(layers.Layer):
    """Takes off the moving mean of what it has seen, whose aggregation is declared."""

    def build(self, shape: Any) -> None:
        self.mean = self.add_weight(
            shape=shape[1:],
            initializer="zeros",
            trainable=False,
            aggregation="mean",
            name="moving_mean",
        )
        self.seen = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False, name="seen"
        )

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.mean.assign(0.8 * self.mean + 0.2 * ops.mean(x, axis=0))
            self.seen.assign_add(1)
        return x - self.mean


PROGRAMS = {
    "stateful metric": Program(lambda: compiled(network(), Confusion(3)), use_scored),
    "a metric that sums a loss": Program(lambda: compiled(network(), Perplexity()), use_scored),
    "several outputs": Program(several_outputs, use_several_outputs),
    "add_loss": Program(added_loss, fitted({"x": X, "y": (TARGETS > 0).astype("float32")})),
    "dropout and noise": Program(dropout, fitted(X, LABELS)),
    "dropout of the global seed": Program(dropout_with_global_seed, fitted(X, LABELS)),
    "a moving mean": Program(lambda: compiled(network(Centred())), fitted(X, LABELS)),
}
