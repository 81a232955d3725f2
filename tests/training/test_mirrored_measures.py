"""Losses and metrics over the replicas are those of one process."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import losses, metrics

from tests.training import comparing
from tests.training.comparing import EVERY, same
from tests.training.models import (
    FIT,
    LABELS,
    TARGETS,
    TWO_IN,
    TWO_OUT,
    WEIGHTS,
    YES,
    X,
    binary,
    classifier,
    regressor,
    two_in_two_out,
)


def slow(rate: float = 0.002) -> Any:
    return keras.optimizers.SGD(rate)


def fit(model: keras.Model, y: Any = TARGETS, **settings: Any) -> Any:
    settings.setdefault("validation_data", (X[:47], y[:47]))
    return model.fit(X, y, **{**FIT, **settings}).history


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"])
def test_reductions(reduction: str) -> None:
    loss = losses.MeanSquaredError(reduction=reduction)
    same(
        lambda: regressor(slow(), losses.MeanSquaredError(reduction=reduction)),
        lambda m: (fit(m), fit(m, sample_weight=WEIGHTS)),
        on=EVERY if loss.reduction != "sum_over_batch_size" else (3,),
    )


def test_reductions_where_a_replica_has_no_examples() -> None:
    def make() -> keras.Model:
        return two_in_two_out(
            loss={
                "label": losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight"),
                "value": losses.MeanSquaredError(reduction="sum"),
            },
            loss_weights={"label": 1.0, "value": 0.01},
        )

    x = {name: value[:98] for name, value in TWO_IN.items()}
    y = {name: value[:98] for name, value in TWO_OUT.items()}
    weights = {"label": WEIGHTS[:98], "value": WEIGHTS[:98]}
    same(make, lambda m: m.fit(x, y, sample_weight=weights, **FIT).history)


def test_loss_functions_of_ones_own_per_example_and_as_one_number() -> None:
    def per_example(y: Any, predicted: Any) -> Any:
        return keras.ops.sum(keras.ops.abs(y - predicted), axis=-1)

    def one_number(y: Any, predicted: Any) -> Any:
        return keras.ops.mean(keras.ops.square(y - predicted))

    def make() -> keras.Model:
        return two_in_two_out(
            loss={"label": "sparse_categorical_crossentropy", "value": one_number}
        )

    same(make, lambda m: m.fit(TWO_IN, TWO_OUT, **FIT).history)
    same(lambda: regressor(slow(), per_example), fit)


def test_a_loss_class_of_ones_own() -> None:
    class Pinball(losses.Loss):
        def call(self, y: Any, predicted: Any) -> Any:
            error = y - predicted
            return keras.ops.mean(keras.ops.maximum(0.8 * error, -0.2 * error), axis=-1)

    same(lambda: regressor(slow(), Pinball()), fit)


def test_losses_in_a_list_with_weights() -> None:
    def make() -> keras.Model:
        inputs = keras.Input((8,))
        outputs = [keras.layers.Dense(2)(inputs), keras.layers.Dense(1)(inputs)]
        model = keras.Model(inputs, outputs)
        model.compile("sgd", ["mse", losses.Huber()], loss_weights=[0.3, 2.0])
        return model

    same(make, lambda m: m.fit(X, [TARGETS, YES], **FIT).history)


def test_losses_that_divide_by_the_global_batch_by_themselves() -> None:
    """`tf.nn.compute_average_loss` in a step of one's own, as TensorFlow's guides write it."""

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2, kernel_regularizer="l2")

        def call(self, x: Any) -> Any:
            return self.dense(x)

        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                each = tf.reduce_mean(tf.square(y - self(x)), axis=-1)
                loss = tf.nn.compute_average_loss(each)
                loss += tf.nn.scale_regularization_loss(tf.add_n(self.losses))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"loss": loss}

    def make() -> keras.Model:
        model = Own()
        model.compile("sgd")
        return model

    same(make, lambda m: m.fit(X, TARGETS, **FIT).history, on=EVERY)


# ---------------------------------------------------------------- metrics


class LargestError(metrics.Metric):
    """A metric of one's own that is a plain sum and a count."""

    def __init__(self, name: str = "off_by_more_than_one", **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.off = self.add_weight(shape=(2,), initializer="zeros", name="off")
        self.rows = self.add_variable(shape=(), initializer="zeros", dtype="int32", name="rows")

    def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
        off = keras.ops.cast(keras.ops.abs(y - predicted) > 1, "float32")
        self.off.assign_add(keras.ops.sum(off, axis=0))
        self.rows.assign_add(keras.ops.shape(y)[0])

    def result(self) -> Any:
        rows = keras.ops.cast(self.rows, "float32")
        return keras.ops.sum(self.off) / keras.ops.maximum(rows, 1.0)


BINARY = {
    "auc": lambda: metrics.AUC(num_thresholds=50),
    "auc_pr": lambda: metrics.AUC(curve="PR", num_thresholds=20, name="pr"),
    "precision": metrics.Precision,
    "recall": lambda: metrics.Recall(thresholds=[0.3, 0.7]),
    "specificity": lambda: metrics.SensitivityAtSpecificity(0.5),
    "f1": lambda: metrics.F1Score(threshold=0.5),
    "false_positives": metrics.FalsePositives,
    "binary_accuracy": lambda: metrics.BinaryAccuracy(threshold=0.4),
    "iou": lambda: metrics.BinaryIoU(threshold=0.5),
}
CLASSES = {
    "top_2": lambda: metrics.SparseTopKCategoricalAccuracy(k=2),
    "mean_iou": lambda: metrics.MeanIoU(num_classes=3, sparse_y_pred=False),
    "crossentropy": metrics.SparseCategoricalCrossentropy,
}
VALUES = {
    "rmse": metrics.RootMeanSquaredError,
    "r2": metrics.R2Score,
    "own": LargestError,
    "mape": metrics.MeanAbsolutePercentageError,
    "cosine": metrics.CosineSimilarity,
    "logcosh": metrics.LogCoshError,
    "function": lambda: lambda y, predicted: keras.ops.mean(keras.ops.abs(y - predicted), axis=-1),
    "mean": lambda: metrics.MeanMetricWrapper(keras.losses.huber, name="huber"),
}


def test_metrics_of_yes_and_no() -> None:
    same(
        lambda: binary(
            metrics=[make() for make in list(BINARY.values())[:: 1 if comparing.THOROUGH else 2]],
            weighted_metrics=[metrics.AUC(num_thresholds=20, name="weighted_auc")],
        ),
        lambda m: (fit(m, YES), fit(m, YES, sample_weight=WEIGHTS, batch_size=49)),
        on=EVERY,
    )


def test_metrics_of_classes() -> None:
    same(
        lambda: classifier(metrics=[make() for make in CLASSES.values()]),
        lambda m: (fit(m, LABELS), fit(m, LABELS, batch_size=52)),
    )


def test_metrics_of_values() -> None:
    same(
        lambda: regressor(metrics=[make() for make in VALUES.values()]),
        lambda m: (fit(m), fit(m, batch_size=52)),
        on=EVERY,
    )


def test_a_metric_that_keeps_more_than_numbers() -> None:
    """Its result is an array: one number for each class."""

    def use(model: keras.Model) -> Any:
        return model.evaluate(X, np.eye(3, dtype="float32")[LABELS], return_dict=True, verbose=0)

    same(lambda: classifier(loss="categorical_crossentropy", metrics=[metrics.F1Score()]), use)


def test_metrics_of_a_layer_of_ones_own() -> None:
    class Watch(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.size = metrics.Mean(name="size")

        def call(self, x: Any) -> Any:
            self.size.update_state(keras.ops.abs(x))
            return x

    def make() -> keras.Model:
        parts = [keras.Input((8,)), keras.layers.Dense(4), Watch(), keras.layers.Dense(2)]
        model = keras.Sequential(parts)
        model.compile(slow(), "mse")
        return model

    same(make, fit)
