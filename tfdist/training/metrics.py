"""What Keras' metrics hold on each replica, and which of a step's logs come from them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfdist.errors import PlugError

__all__ = ["Reading", "StepLogs", "as_plain", "recorded_results", "to_be_summed"]


class Reading(NamedTuple):
    """What the replicas read together.

    Attributes:
        logs: the metrics over all replicas, and a custom step's other logs.
        numbers: `[workers, n]`: every worker's own numbers.
    """

    logs: dict[str, Any]
    numbers: np.ndarray


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


class StepLogs:
    """Knows which of a step's logs are results of metrics, and which stand for themselves.

    Args:
        model: whose steps they are.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._sources: dict[str, dict[str, keras.metrics.Metric | None]] = {}

    def sort(
        self, mode: str, logs: Any, results: dict[int, tuple[Any, keras.metrics.Metric]]
    ) -> dict[str, tf.Tensor]:
        """Keeps of a step's logs what no metric's state holds; notes where each comes from.

        Args:
            mode: "train" or "test".
            logs: what `train_step` or `test_step` returned.
            results: from `recorded_results`.

        Raises:
            PlugError: it is no dict.
        """
        if not isinstance(logs, dict):
            raise PlugError(
                f"{mode}_step returned {type(logs).__name__}; it must return a dict of logs, "
                'such as {"loss": loss}'
            )
        if set(logs) == set(self._model.get_metrics_result()):
            self._sources[mode] = {}
            return {}
        sources = {name: results.get(id(value), (None, None))[1] for name, value in logs.items()}
        self._sources[mode] = sources
        return {
            name: tf.cast(tf.convert_to_tensor(logs[name]), tf.float32)
            for name, metric in sources.items()
            if metric is None
        }

    def results(
        self, mode: str, states: Sequence[tuple[keras.Variable, Any]], own: dict[str, Any]
    ) -> dict[str, Any]:
        """Returns all logs of a mode.

        Args:
            mode: "train" or "test".
            states: the metrics' variables and their values over all replicas.
            own: the logs that are no metrics.
        """
        with keras.StatelessScope(state_mapping=list(states)):
            sources = self._sources.get(mode)
            if not sources:
                return dict(self._model.get_metrics_result())
            return {
                name: own[name] if metric is None else metric.result()
                for name, metric in sources.items()
            }


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
