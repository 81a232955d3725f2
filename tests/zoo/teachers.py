"""Models that learn from another model."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from tests.zoo.program import LABELS, Program, X, fitted


def classifier(units: int, *between: Any) -> keras.Model:
    return keras.Sequential(
        [keras.Input((8,)), *between, layers.Dense(units, activation="tanh"), layers.Dense(3)]
    )


class Distiller(keras.Model):
    """A student, a fixed teacher, a `compile` and a `compute_loss` of its own."""

    def __init__(self, student: keras.Model, teacher: keras.Model) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student

    def compile(
        self,
        optimizer: Any,
        metrics: Any,
        student_loss_fn: Any,
        distillation_loss_fn: Any,
        alpha: float = 0.1,
        temperature: float = 3,
    ) -> None:
        super().compile(optimizer=optimizer, metrics=metrics)
        self.student_loss_fn = student_loss_fn
        self.distillation_loss_fn = distillation_loss_fn
        self.alpha = alpha
        self.temperature = temperature

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        taught = ops.softmax(self.teacher(x, training=False) / self.temperature, axis=1)
        learnt = ops.softmax(y_pred / self.temperature, axis=1)
        distillation_loss = self.distillation_loss_fn(taught, learnt) * self.temperature**2
        student_loss = self.student_loss_fn(y, y_pred)
        return self.alpha * student_loss + (1 - self.alpha) * distillation_loss

    def call(self, x: Any) -> Any:
        return self.student(x)


def distillation() -> keras.Model:
    teacher = classifier(16)
    teacher.trainable = False
    model = Distiller(classifier(4), teacher)
    model.compile(
        optimizer=keras.optimizers.SGD(0.2),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
        student_loss_fn=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss_fn=keras.losses.KLDivergence(),
        alpha=0.3,
    )
    return model


def use_distillation(model: keras.Model) -> Any:
    history = fitted(X, LABELS, validation_data=(X[:50], LABELS[:50]))(model)
    return history, model.predict(X, batch_size=32, verbose=0)


class MeanTeacher(keras.Model):
    """The teacher is the moving average of the student; both see noise of their own.

    Tarvainen and Valpola 2017.
    """

    def __init__(self, decay: float = 0.9) -> None:
        super().__init__()
        self.student = classifier(8, layers.GaussianNoise(0.2, seed=1))
        self.teacher = classifier(8, layers.GaussianNoise(0.2, seed=2))
        self.teacher.set_weights(self.student.get_weights())
        self.teacher.trainable = False
        self.decay = decay

    def call(self, x: Any, training: bool = False) -> Any:
        return self.student(x, training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        taught = ops.softmax(self.teacher(x, training=True))
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            agreement = ops.mean(ops.square(ops.softmax(y_pred) - taught))
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred) + 2.0 * agreement
        weights = self.student.trainable_weights
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        for slow, fast in zip(self.teacher.weights, self.student.weights, strict=True):
            slow.assign(self.decay * slow + (1 - self.decay) * fast)
        return {**self.compute_metrics(x, y, y_pred), "loss": loss, "agreement": agreement}


def mean_teacher() -> keras.Model:
    model = MeanTeacher()
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


PROGRAMS = {
    "distillation": Program(distillation, use_distillation),
    "EMA teacher": Program(mean_teacher, fitted(X, LABELS)),
}
