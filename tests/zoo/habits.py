"""Ways in which people write a model's class and drive it."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from tests.zoo.program import FIT, LABELS, TARGETS, Program, X, fitted


class WideAndDeep(keras.Model):
    """Two parts, two optimizers that nobody builds beforehand, one tape."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = layers.Dense(1)
        self.deep = keras.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(1)])
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker]

    def compile(self, wide_optimizer: Any, deep_optimizer: Any, loss: Any) -> None:
        super().compile(loss=loss)
        self.wide_optimizer = wide_optimizer
        self.deep_optimizer = deep_optimizer

    def call(self, x: Any) -> Any:
        return self.wide(x) + self.deep(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        wide, deep = self.wide.trainable_variables, self.deep.trainable_variables
        for_wide, for_deep = tape.gradient(loss, (wide, deep))
        self.wide_optimizer.apply_gradients(zip(for_wide, wide, strict=True))
        self.deep_optimizer.apply_gradients(zip(for_deep, deep, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        self.loss_tracker.update_state(self.compute_loss(x=x, y=y, y_pred=self(x)))
        return {"loss": self.loss_tracker.result()}


def two_optimizers() -> keras.Model:
    model = WideAndDeep()
    model.compile(
        wide_optimizer=keras.optimizers.SGD(0.05),
        deep_optimizer=keras.optimizers.RMSprop(0.002),
        loss="mse",
    )
    return model


class Nested(keras.Model):
    """A functional model with the step of Keras' guide: one of the logs is itself a dict."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred, sample_weight=sample_weight)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred, sample_weight=sample_weight)
        return {metric.name: metric.result() for metric in self.metrics}


def nested_logs() -> keras.Model:
    inputs = keras.Input((8,))
    model = Nested(inputs, layers.Dense(1)(inputs))
    model.compile(
        optimizer=keras.optimizers.SGD(0.05), loss="mse", metrics=["mae"], weighted_metrics=["mse"]
    )
    return model


def use_nested_logs(model: keras.Model) -> Any:
    """Trains; Keras sorts the keys of a history before it takes dicts apart, tfdist after."""
    use = fitted(X, TARGETS, sample_weight=abs(X[:, 0]) + 0.5, shuffle=False)
    return dict(sorted(use(model).items()))


class OwnCompile(keras.Model):
    """`compile` takes what Keras' does not know, and keeps metrics of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.network = keras.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(1)])

    def compile(self, *args: Any, margin: float, huber: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        self.margin = margin
        self.huber = huber
        self.inside = keras.metrics.Mean(name="inside")
        self.huber_tracker = keras.metrics.Mean(name="huber")

    def call(self, x: Any) -> Any:
        return self.network(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.huber(y, y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.inside.update_state(ops.abs(y - y_pred) < self.margin)
        self.huber_tracker.update_state(loss)
        return {
            **self.compute_metrics(x, y, y_pred),
            "huber": self.huber_tracker.result(),
            "inside": self.inside.result(),
        }


def own_compile() -> keras.Model:
    model = OwnCompile()
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        metrics=["mae"],
        margin=0.5,
        huber=keras.losses.Huber(delta=0.5),
    )
    return model


class OwnFit(keras.Model):
    """`fit`, `evaluate` and `predict` prepare the data and call Keras'."""

    def __init__(self) -> None:
        super().__init__()
        self.network = keras.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(3)])

    def call(self, x: Any) -> Any:
        return self.network(x)

    def prepared(self, x: Any) -> Any:
        return (x - x.mean(0)) / x.std(0)

    def fit(self, x: Any, y: Any, **kwargs: Any) -> Any:
        return super().fit(self.prepared(x), y, **kwargs)

    def evaluate(self, x: Any, y: Any, **kwargs: Any) -> Any:
        return super().evaluate(self.prepared(x), y, **kwargs)

    def predict(self, x: Any, **kwargs: Any) -> Any:
        return ops.convert_to_numpy(ops.softmax(super().predict(self.prepared(x), **kwargs)))


def classifying(model: keras.Model) -> keras.Model:
    model.compile(
        optimizer=keras.optimizers.SGD(0.2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def use_own_fit(model: keras.Model) -> Any:
    history = model.fit(2 * X + 1, LABELS, **FIT).history
    scores = model.evaluate(2 * X + 1, LABELS, batch_size=32, verbose=0)
    return history, scores, model.predict(2 * X + 1, batch_size=32, verbose=0)


def frozen() -> keras.Model:
    base = keras.Sequential(
        [layers.Dense(8, activation="tanh"), layers.BatchNormalization(synchronized=True)],
        name="base",
    )
    base.trainable = False
    return classifying(keras.Sequential([keras.Input((8,)), base, layers.Dense(3)]))


def use_frozen(model: keras.Model) -> Any:
    """The head alone, then all of it: a transfer in two parts."""
    first = model.fit(X, LABELS, **FIT).history
    model.get_layer("base").trainable = True
    model.compile(optimizer="sgd", loss=model.loss, metrics=["accuracy"])
    model.optimizer.learning_rate = 0.05
    return first, model.fit(X, LABELS, **FIT).history, len(model.trainable_weights)


def use_with_another_optimizer(model: keras.Model) -> Any:
    """Compiles again, outside of the scope that the script is supposed to know."""
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=model.loss)
    return model.fit(X, LABELS, **FIT).history


PROGRAMS = {
    "several optimizers": Program(
        two_optimizers, fitted(X, TARGETS, validation_data=(X[:40], TARGETS[:40]))
    ),
    "nested logs": Program(nested_logs, use_nested_logs),
    "own compile": Program(own_compile, fitted(X, TARGETS)),
    "own fit": Program(lambda: classifying(OwnFit()), use_own_fit),
    "frozen, then unfrozen": Program(frozen, use_frozen),
    "an optimizer made outside": Program(
        lambda: classifying(OwnFit()),
        use_with_another_optimizer,
        "refused: the optimizer was made outside of strategy.scope()",
    ),
}
