"""The logs of a step are the metrics' results over all replicas, whatever these are made of."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfdist.training.replica.step_logs import StepLogs


class Rows(keras.metrics.Metric):
    """Counts rows, and returns its state itself, as plain Keras allows."""

    def __init__(self) -> None:
        super().__init__(name="rows")
        self.count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.count.assign_add(float(y_true.shape[0]))

    def result(self) -> Any:
        return self.count


def test_a_result_that_is_a_variable_is_read_where_all_replicas_are_summed() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[Rows()])
    model.train_on_batch(tf.ones((3, 1)), tf.ones((3, 1)))
    (rows,) = [one for one in model.metrics_variables if one.path.endswith("count")][-1:]
    logs = StepLogs(model).results("train", [(rows, tf.constant(7.0))], {})
    assert float(tf.convert_to_tensor(logs["rows"])) == 7.0
