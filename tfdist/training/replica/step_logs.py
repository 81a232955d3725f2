"""What Keras' metrics hold on each replica, and which of a step's logs come from them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import keras_build, tf_graphs
from tfdist.errors import PlugError
from tfdist.structures import Leaf, Logs, Nest, T
from tfdist.training.mode import Mode
from tfdist.training.replica.step import current

__all__ = ["Reading", "StepLogs", "are_used", "as_plain", "recorded_results", "to_be_summed"]


class Reading(NamedTuple):
    """What the replicas read together.

    Attributes:
        logs: the metrics over all replicas, and a custom step's other logs.
        numbers: `[workers, n]`: every worker's own numbers.
    """

    logs: Logs
    numbers: np.ndarray


class Source(NamedTuple):
    """Where a log of a step comes from.

    Attributes:
        metric: whose result it is.
        name: which of the results, of a metric that has several by name (`compile`'s all are one).
    """

    metric: keras.metrics.Metric
    name: str | None = None

    def read(self) -> tf.Tensor:
        """Returns the result as the metric's state is now."""
        result = self.metric.result()
        return result if self.name is None else result[self.name]


Recorded: TypeAlias = dict[int, tuple[tf.Tensor, Source]]
"""From the identity of a tensor to the tensor and where it comes from."""


@contextlib.contextmanager
def recorded_results(model: keras.Model, whole: bool = False) -> Iterator[Recorded]:
    """Notes which tensors are results of which metrics, to tell them from a step's other logs.

    Args:
        model: a model whose `train_step` or `test_step` is being traced in the block.
        whole: whether results are those of all replicas, for steps that compute with them.

    Yields:
        A dict that fills.
    """
    results: Recorded = {}
    metrics = list({id(metric): metric for metric in model.metrics}.values())

    def recording(metric: keras.metrics.Metric) -> Callable[[], Nest]:
        original = metric.result

        def result() -> Nest:
            value = _of_all_replicas(metric, original) if whole else original()
            if isinstance(value, dict):
                for name, one in value.items():
                    results[id(one)] = (one, Source(metric, name))
            else:
                results[id(value)] = (value, Source(metric))
            return value

        return result

    for metric in metrics:
        object.__setattr__(metric, "result", recording(metric))
    try:
        with keras_build.functions_inline():
            yield results
    finally:
        for metric in metrics:
            object.__delattr__(metric, "result")


def are_used(results: Recorded) -> bool:
    """Whether a step has computed something from a metric's result, and not just returned it."""
    return any(
        tf_graphs.is_symbolic(value) and value.consumers()
        for value, _ in results.values()
        if isinstance(value, tf.Tensor)
    )


def _of_all_replicas(metric: keras.metrics.Metric, result: Callable[[], T]) -> T:
    """Returns a metric's result over all replicas, inside of a replica's step."""
    step = current()
    if step is None:
        return result()
    variables = list(metric.variables)
    if step.lockstep is None:
        own = [to_be_summed(v, step.replica, step.replicas) for v in variables]
        sums = step.sum_over_replicas(own)
    else:  # which share the states of their process
        sums = step.lockstep.sum_of_processes(
            lambda process, processes: [to_be_summed(v, process, processes) for v in variables]
        )
    with keras.StatelessScope(state_mapping=list(zip(variables, sums, strict=True))):
        return result()


class StepLogs:
    """Knows which of a step's logs are results of metrics, and which stand for themselves.

    Args:
        model: whose steps they are.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._sources: dict[str, dict[str, Source | None]] = {}

    def sort(self, mode: Mode, logs: object, results: Recorded) -> dict[str, tf.Tensor]:
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
        logs = _flat(logs)
        sources = {name: results.get(id(value), (None, None))[1] for name, value in logs.items()}
        self._sources[mode] = sources
        return {name: _as_log(logs[name]) for name, source in sources.items() if source is None}

    def results(
        self,
        mode: Mode,
        states: Sequence[tuple[keras.Variable, tf.Tensor]],
        own: dict[str, tf.Tensor],
    ) -> dict[str, tf.Tensor]:
        """Returns all logs of a mode.

        Args:
            mode: "train" or "test".
            states: the metrics' variables and their values over all replicas.
            own: the logs that are no metrics.
        """
        with keras.StatelessScope(state_mapping=list(states)):
            sources = self._sources.get(mode)
            if not sources:
                return _now(dict(self._model.get_metrics_result()))
            return _now(
                {
                    name: own[name] if source is None else source.read()
                    for name, source in sources.items()
                }
            )


def _as_log(value: Leaf) -> tf.Tensor:
    """A number that can be summed over replicas, as exact as it was."""
    value = tf.convert_to_tensor(value)
    return value if value.dtype == tf.float64 else tf.cast(value, tf.float32)


def _now(logs: dict[str, Nest]) -> dict[str, tf.Tensor]:
    """The logs with the values of variables: a metric's result may be its state itself."""
    read: dict[str, Nest] = keras.tree.map_structure(
        lambda value: value.value if isinstance(value, keras.Variable) else value, logs
    )
    flat: dict[str, tf.Tensor] = {}
    for name, value in read.items():  # a result may be a dict with a variable in it
        flat.update(value if isinstance(value, dict) else {name: value})
    return flat


def _flat(logs: dict[str, Nest]) -> dict[str, tf.Tensor]:
    """Puts the logs of dicts inside beside the others, in the order in which Keras does."""
    flat: dict[str, tf.Tensor] = {}
    for name, value in sorted(logs.items()):
        flat.update(_flat(value) if isinstance(value, dict) else {name: value})
    return flat


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


def as_plain(value: tf.Tensor) -> float | np.ndarray:
    """A Python float for a scalar, an array for the rest."""
    array = value.numpy()
    return float(array) if np.ndim(array) == 0 else array
