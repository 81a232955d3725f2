"""What a step writes into variables: statistics, counters, queues, a teacher's weights.

A value that is the same on all replicas is written as it is. Of others the variable's declared
`aggregation` tells what they make: "mean" their mean by the shares, "sum" their sum,
"only_first_replica" the first one's. Where none is declared, each replica writes its own, as
BatchNormalization wants it, and the loop takes the mean wherever somebody looks at it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from tfdist import log
from tfdist.compat import patches, tf_graphs, tf_strategies
from tfdist.compat.patches import Patches
from tfdist.training.replica.local_state import write
from tfdist.training.replica.reductions import may_count_rows
from tfdist.training.replica.replication import Kind
from tfdist.training.replica.step import ReplicaStep, current

__all__ = ["PATCHES"]


def _assign(self: keras.Variable, value: tf.Tensor) -> None:
    """Writes a Keras variable, as `_writing` does what a program makes with `tf.Variable`."""
    step = current()
    if step is None:
        patches.original("assign")(self, value)
        return
    variable = self.value
    value = tf.cast(value, variable.dtype)
    if tf_strategies.is_on_read(variable):  # a metric's: each replica has it for itself
        is_summed = step.counted is not None and self.aggregation == "sum"
        if is_summed and not _is_added_to(variable, value):
            log.warning_once(
                "a metric of your own assigns to its state %s, and the states of the replicas are "
                "added up: add to it (assign_add) what the rows bring, or take tfdist.gather_batch "
                "and aggregation='mean' for it",
                self.name,
            )
        variable.assign(tf.where(step.present, value, variable) if step.may_be_absent else value)
    else:
        _write(step, variable, "assign", value)


def _is_added_to(variable: tf.Variable, value: tf.Tensor) -> bool:
    """Whether what is assigned is a sum, of which the variable's own value is one term."""
    if not tf_graphs.is_symbolic(value):
        return True  # nobody can tell
    handles = {id(handle) for handle in tf_strategies.handles_of(variable)}
    waiting = [value]
    while waiting:
        operation = waiting.pop().op
        if operation.type == "ReadVariableOp":
            handle = operation.inputs[0]
            outer = tf_graphs.captured(handle) if handle.op.type == "Placeholder" else handle
            if id(outer) in handles:
                return True
        elif operation.type in ("Add", "AddN", "AddV2", "Cast", "Identity"):
            waiting += operation.inputs
        elif operation.type == "Sub":
            waiting.append(operation.inputs[0])
    return False


def _adding(name: str) -> Callable[..., tf.Tensor]:
    """Keras' `assign_add` and `assign_sub`, which are an `assign` of what the variable has then."""

    def add(self: keras.Variable, value: tf.Tensor | float) -> tf.Tensor:
        step = current()
        if step is not None and step.counted is not None and self.synchronization == "on_read":
            step.counted.append((self, value if name == "assign_add" else -value))
        elif step is not None and _is_summed(self) and not step.applies:
            value = tf.convert_to_tensor(value, self.value.dtype)
            value = _aggregated(step, value, tf.VariableAggregation.SUM)
        return patches.original(name)(self, value)

    return add


def _is_summed(variable: keras.Variable) -> bool:
    return variable.aggregation == "sum" and variable.synchronization != "on_read"


def _writing(name: str) -> Callable[..., object]:
    """`assign`, `assign_add` or `assign_sub` of a mirrored variable."""

    def written(self: tf.Variable, value: tf.Tensor, *args: object, **kwargs: object) -> object:
        step = current()
        if step is None or step.applies or tf_strategies.is_on_read(self):
            return patches.original(name)(self, value, *args, **kwargs)
        _write(step, self, name.removeprefix("mirrored_"), tf.cast(value, self.dtype))
        return self

    return written


def _write(step: ReplicaStep, variable: tf.Variable, method: str, value: tf.Tensor) -> None:
    none = variable.aggregation == tf.VariableAggregation.NONE
    adds = method != "assign"
    if step.lockstep is not None and not step.applies:
        value = _of_all(step, variable, value)
    elif step.applies:
        pass  # an optimizer's own variables come out equal
    elif not none:
        value = _aggregated(step, value, variable.aggregation)
        if not adds:
            step.replication.has_synced(variable)
    elif _is_the_same(step, variable, value, adds):
        step.replication.has_synced(variable)
    else:
        step.local_state[id(variable)] = variable
        step.replication.has_diverged(variable)
        if step.may_be_absent:
            kept = tf.zeros_like(value) if adds else tf.convert_to_tensor(variable)
            value = tf.where(step.present, value, kept)
    writes = functools.partial(write, step.strategy, variable, value, method)
    if step.lockstep is None or step.applies:
        writes()
    else:
        step.lockstep.once(variable, writes)


def _of_all(step: ReplicaStep, variable: tf.Variable, value: tf.Tensor) -> tf.Tensor:
    """What virtual replicas write into the one copy of a variable that they share.

    Where nothing is declared that is their mean at once, which other replicas come to later.
    """
    if variable.aggregation != tf.VariableAggregation.NONE:
        return _aggregated(step, value, variable.aggregation)
    if not value.dtype.is_floating:
        return _aggregated(step, value, tf.VariableAggregation.ONLY_FIRST_REPLICA)
    if step.replication.of(value) is Kind.REPLICATED:
        return value
    step.local_state[id(variable)] = variable
    present = tf.cast(step.present, value.dtype)
    total, count = step.sum_over_replicas([step.if_present(value), present])
    return total / count


def _is_the_same(step: ReplicaStep, variable: tf.Variable, value: tf.Tensor, adds: bool) -> bool:
    if step.replication.of(value) is not Kind.REPLICATED:
        return False
    return not adds or id(variable) not in step.local_state


def _aggregated(
    step: ReplicaStep, value: tf.Tensor, aggregation: tf.VariableAggregation
) -> tf.Tensor:
    """Returns what the replicas' values make."""
    sums = aggregation == tf.VariableAggregation.SUM
    if sums and _is_number_of_rows(step, value):
        return step.sum_over_replicas(step.if_present(value))
    if step.replication.of(value) is Kind.REPLICATED:
        return value
    if aggregation == tf.VariableAggregation.ONLY_FIRST_REPLICA:
        return step.first_of_replicas([value])[0]
    if sums:
        return step.sum_over_replicas(step.if_present(value))
    exact = value if value.dtype.is_floating else tf.cast(value, tf.float64)
    mean = tf.cast(step.mean_over_replicas([exact])[0], value.dtype)
    step.replication.mark([mean])
    return mean


def _is_number_of_rows(step: ReplicaStep, value: tf.Tensor) -> bool:
    """Whether a constant is the replica's number of rows, which a graph of whole batches has.

    (1 is a step that is counted, more likely.)
    """
    if step.rows is None or step.rows.static in (None, 1):
        return False
    return may_count_rows(step, tf.convert_to_tensor(value))


PATCHES = Patches(
    {
        "assign": _assign,
        "assign_add": _adding("assign_add"),
        "assign_sub": _adding("assign_sub"),
        "mirrored_assign": _writing("mirrored_assign"),
        "mirrored_assign_add": _writing("mirrored_assign_add"),
        "mirrored_assign_sub": _writing("mirrored_assign_sub"),
    }
)
