"""Metrics of one's own: what a replica adds to a state is to be its part of what one machine adds.

The states of a metric are summed over the replicas when they are read. That is right for sums over
rows and counts of them. A metric that counts steps, though (`count.assign_add(1)`), and with them
means over the batch, would count every replica's: of such a metric, what is no sum over rows is
weighted by the share.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from tfdist.training.replica.reductions import may_count_rows, weighted_part
from tfdist.training.replica.replication import Kind
from tfdist.training.replica.step import ReplicaStep, current

__all__ = ["known_metrics"]


@contextlib.contextmanager
def known_metrics(model: keras.Model) -> Iterator[None]:
    """Has the steps that are traced in the block know when a metric of the model is updated."""
    metrics = {id(one): one for metric in model.metrics for one in _with_its_own(metric)}
    for metric in metrics.values():
        object.__setattr__(metric, "update_state", _telling(metric))
    try:
        yield
    finally:
        for metric in metrics.values():
            object.__delattr__(metric, "update_state")


def _with_its_own(metric: keras.metrics.Metric) -> Iterator[keras.metrics.Metric]:
    """A metric, and those that it holds (that of `compile` holds all that it was given)."""
    yield metric
    for inner in getattr(metric, "metrics", ()):
        yield from _with_its_own(inner)


def _telling(metric: keras.metrics.Metric) -> Callable[..., object]:
    update_state = metric.update_state
    is_own = type(metric).__module__.partition(".")[0] != "keras"

    def update(*args: object, **kwargs: object) -> object:
        step = current()
        if step is None:
            return update_state(*args, **kwargs)
        outer = step.updates_a_metric, step.counted
        step.updates_a_metric, step.counted = True, [] if is_own else None
        try:
            found = update_state(*args, **kwargs)
        finally:
            added = step.counted or []
            step.updates_a_metric, step.counted = outer
        _correct(step, added)
        return found

    return update


def _correct(step: ReplicaStep, added: list[tuple[keras.Variable, tf.Tensor | float]]) -> None:
    """Has what a metric that counts steps has added be this replica's part."""
    if tf.executing_eagerly() or not any(_is_of_a_step(step, value) for _, value in added):
        return
    for variable, value in added:
        value = tf.convert_to_tensor(value, variable.value.dtype)
        part = weighted_part(step, value) if value.dtype.is_floating else _once(step, value)
        variable.assign(variable + (part - value))


def _is_of_a_step(step: ReplicaStep, value: tf.Tensor | float) -> bool:
    """Whether what was added is the same whatever the rows are, and is not their number."""
    if step.replication.peek(value) is not Kind.REPLICATED:
        return False
    return not may_count_rows(step, tf.convert_to_tensor(value))


def _once(step: ReplicaStep, value: tf.Tensor) -> tf.Tensor:
    """An integer has no part: the last replica, which always has rows, counts it."""
    if step.rows is None or not _is_of_a_step(step, value):
        return value
    is_last = tf.equal(step.rows.start + step.rows.count, step.rows.total)
    return tf.where(is_last, value, tf.zeros_like(value))
