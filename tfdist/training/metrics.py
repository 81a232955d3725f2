"""What Keras' metrics hold on each replica, and which of a step's logs come from them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = ["as_plain", "recorded_results", "to_be_summed"]


@contextlib.contextmanager
def recorded_results(
    model: keras.Model,
) -> Iterator[dict[int, tuple[Any, keras.metrics.Metric]]]:
    """Notes which tensors are results of which metrics, to tell them from a step's other logs.

    Args:
        model: a model whose `train_step` or `test_step` is being traced in the block.

    Yields:
        A dict that fills: from the identity of a tensor to the tensor and its metric.
    """
    results: dict[int, tuple[Any, keras.metrics.Metric]] = {}
    metrics = list({id(metric): metric for metric in model.metrics}.values())

    def recording(metric: keras.metrics.Metric) -> Callable[[], Any]:
        original = metric.result

        def result() -> Any:
            value = original()
            results[id(value)] = (value, metric)
            return value

        return result

    for metric in metrics:
        object.__setattr__(metric, "result", recording(metric))
    try:
        yield results
    finally:
        for metric in metrics:
            object.__delattr__(metric, "result")


def to_be_summed(variable: keras.Variable, replica: tf.Tensor, replicas: int) -> tf.Tensor:
    """A metric's variable on this replica, such that the sum over replicas is the whole's value.

    Args:
        variable: a state of a metric; its `aggregation` tells what the states of replicas make.
        replica: this replica's number, an int32 scalar.
        replicas: how many there are.
    """
    value = tf.identity(variable.value)
    if variable.aggregation == "sum":
        return value
    if variable.aggregation == "mean":
        return value / tf.cast(replicas, value.dtype)
    return tf.where(tf.equal(replica, 0), value, tf.zeros_like(value))


def as_plain(value: tf.Tensor) -> Any:
    """A Python float for a scalar, an array for the rest."""
    array = value.numpy()
    return float(array) if np.ndim(array) == 0 else array
