"""What steps have written on each replica for itself, and how the replicas agree on it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdist import log
from tfdist.compat import keras_layers, tf_strategies
from tfdist.training.model_parts import optimizers_of
from tfdist.training.peers import packing
from tfdist.training.replica.step import ReplicaStep
from tfdist.training.tracing import traced

__all__ = ["LocalState", "own_copy", "write"]


def own_copy(value: tf.Tensor | tf.Variable) -> tf.Variable:
    """A variable that each replica has for itself."""
    return tf.Variable(
        value,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def write(
    strategy: tf.distribute.Strategy,
    variable: tf.Variable,
    value: tf.Tensor,
    method: str = "assign",
) -> None:
    """Has the replica in whose context it is called assign to its copy of a variable."""
    strategy.extended.update(
        variable, lambda own, new: getattr(own, method)(new), args=(value,), group=False
    )


class LocalState:
    """The variables that may differ between the replicas of a model.

    Args:
        model: a built model.
        strategy: in whose scope it was made.

    Attributes:
        written: the variables, by identity.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy) -> None:
        self._model = model
        self._strategy = strategy
        self._replicas = strategy.num_replicas_in_sync
        self.written: dict[int, tf.Variable] = {}
        self._compared: set[int] = set()
        self._present: tf.Variable | None = None
        if self._replicas > 1:
            with strategy.scope():
                self._present = own_copy(tf.ones(()))

    @property
    def variables(self) -> list[tf.Variable]:
        """Those that steps have written."""
        return list(self.written.values())

    def in_sync(self) -> dict[int, tf.Variable]:
        """Returns the variables whose replicas are equal, by the identities of their handles."""
        model = self._model
        optimizers = optimizers_of(model)
        there = [*model.variables, *(v for one in optimizers for v in one.variables)]
        values = [v.value for v in there if v.synchronization != "on_read"]
        return {
            id(handle): value
            for value in values
            if id(value) not in self.written
            for handle in tf_strategies.handles_of(value)
        }

    def wrote(self, step: ReplicaStep) -> None:
        """Notes what a step writes; call it at its end, in the replica's context."""
        self.written.update(step.local_state)
        if step.may_be_absent and self._present is not None:
            self._present.assign(tf.cast(step.present, tf.float32))

    def took_means(self, step: ReplicaStep) -> None:
        """Names, once, what virtual replicas have written the mean of though nobody has said so."""
        for variable in self._not_expected(step.local_state):
            log.warning("%s", self._describe(variable))

    def average(self) -> None:
        """Takes the mean of what the replicas hold; call it in each replica's context.

        Of what has no mean (counters, flags) all take the first replica's.
        """
        variables = self.variables
        floats = [v for v in variables if v.dtype.is_floating]
        others = [v for v in variables if not v.dtype.is_floating]
        assert self._present is not None
        # A replica that had no examples in the last step has nothing newer to say.
        present = tf.convert_to_tensor(self._present)
        values = [v * tf.cast(present, v.dtype) for v in floats]
        count, *sums = packing.sum_over_replicas([present, *values])
        for variable, total in zip(floats, sums, strict=True):
            write(self._strategy, variable, total / tf.cast(count, total.dtype))
        firsts = packing.broadcast_from_first([tf.identity(v) for v in others])
        for variable, first in zip(others, firsts, strict=True):
            write(self._strategy, variable, first)
        self._present.assign(tf.ones(()))  # all agree: the next steps say anew who is missing

    def warn(self) -> None:
        """Names, once, what differs between the replicas though nobody has said what to do then.

        Every worker must call it together, before `average`.
        """
        new = self._not_expected(self.written)
        if not new:
            return
        differences = self._compare(new)
        for variable, difference in zip(new, differences, strict=True):
            if difference > 0:
                log.warning("%s", self._describe(variable, f" (by {difference:.2g})"))

    def _not_expected(self, written: Mapping[int, tf.Variable]) -> list[tf.Variable]:
        """Returns those of the variables, once, that are no moving statistics of Keras'."""
        known = self._compared | keras_layers.batch_statistics(self._model)
        self._compared |= set(written)
        return [variable for key, variable in written.items() if key not in known]

    def _compare(self, variables: Sequence[tf.Variable]) -> np.ndarray:
        """Returns how far the replicas are from their mean, at most, a number a variable."""

        def on_replica() -> tf.Tensor:
            values = [tf.cast(tf.convert_to_tensor(v), tf.float64) for v in variables]
            sums = packing.sum_over_replicas(values)
            own = [
                tf.reduce_max(tf.abs(value - total / self._replicas))
                for value, total in zip(values, sums, strict=True)
            ]
            return packing.sum_over_replicas([tf.stack(own)])[0]

        run = traced(lambda: self._strategy.run(on_replica))
        return np.asarray(self._strategy.experimental_local_results(run())[0])

    def _describe(self, variable: tf.Variable, by: str = "") -> str:
        paths = {id(v.value): v.path for v in self._model.variables}
        path = paths.get(id(variable), variable.name)
        taken = "their mean is" if variable.dtype.is_floating else "the first replica's is"
        return (
            f"the variable {path!r} differs between the replicas{by}, since each "
            f"writes what it sees of the batch; {taken} taken, which may not be one machine's: "
            "make it with add_weight(..., aggregation='mean', 'sum' or 'only_first_replica') to "
            "say what replicas make together, or compute it from tfdist.gather_batch(...), the "
            "whole batch's rows"
        )
