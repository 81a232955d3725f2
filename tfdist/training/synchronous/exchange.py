"""How replicas exchange what they have learnt: gradients at every step, or weights now and then.

Each of these is given to a replica's step, and stands where a tape sums gradients
over the replicas (`replica.gradients`).
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdist.structures import Gradient, Variable
from tfdist.training.plug_options import TrainingOptions
from tfdist.training.replica import ReplicaStep
from tfdist.training.replica.local_state import own_copy, write
from tfdist.training.replica.step import on_numbers

__all__ = ["Compressed", "LocalSteps", "make_exchange"]


def make_exchange(
    options: TrainingOptions, model: keras.Model, strategy: tf.distribute.Strategy
) -> Compressed | LocalSteps | None:
    """Returns what the options ask for, with its variables on every replica; None for neither."""
    if strategy.num_replicas_in_sync == 1:
        return None
    if options.local_steps > 1:
        return LocalSteps(options, model, strategy)
    if options.gradient_dtype is not None:
        return Compressed(options, model, strategy)
    return None


class Compressed:
    """Sums gradients over the replicas in a narrower floating-point type.

    Args:
        options: with a `gradient_dtype`.
        model: a built model.
        strategy: its strategy.
    """

    goes_alone = False

    def __init__(
        self, options: TrainingOptions, model: keras.Model, strategy: tf.distribute.Strategy
    ) -> None:
        self._dtype = tf.as_dtype(options.gradient_dtype)
        self._residuals: dict[int, tf.Variable] = {}
        if options.error_feedback:
            with strategy.scope():
                self._residuals = {
                    id(v): own_copy(tf.zeros(v.shape, v.dtype)) for v in model.trainable_variables
                }

    @property
    def own_variables(self) -> list[tf.Variable]:
        """What it remembers from step to step."""
        return list(self._residuals.values())

    def gradients(
        self, step: ReplicaStep, gradients: Sequence[Gradient], variables: Sequence[Variable]
    ) -> list[Gradient]:
        """Returns the sums over the replicas of the gradients, which shares have weighted."""
        narrow = [
            self._narrow(gradient, variable)
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
        sums = step.sum_over_replicas(narrow)
        return [
            total if isinstance(total, tf.IndexedSlices) else tf.cast(total, full.dtype)
            for total, full in zip(sums, gradients, strict=True)
        ]

    def _narrow(self, gradient: Gradient, variable: Variable) -> Gradient:
        # TensorFlow gathers sparse gradients, and its own gathering knows no bfloat16.
        if isinstance(gradient, tf.IndexedSlices) or not gradient.dtype.is_floating:
            return gradient
        residual = self._residuals.get(id(variable))
        if residual is None:
            return tf.cast(gradient, self._dtype)
        gradient += tf.cast(residual, gradient.dtype)
        narrow = tf.cast(gradient, self._dtype)
        residual.assign(tf.cast(gradient - tf.cast(narrow, gradient.dtype), residual.dtype))
        return narrow

    def after_step(self, step: ReplicaStep) -> None:
        """Nothing more is exchanged."""


class LocalSteps:
    """Lets the replicas train by themselves, and brings their weights together every H steps.

    After H steps of its own, each replica has moved from the common weights w to w_r. The outer
    gradient is w - mean(w_r), applied with Nesterov momentum (DiLoCo, algorithm 1). The inner
    optimizer's own state stays with each replica.

    Args:
        options: with `local_steps` above 1.
        model: a built model.
        strategy: its strategy.
    """

    goes_alone = True
    """No gradient is anybody else's."""

    def __init__(
        self, options: TrainingOptions, model: keras.Model, strategy: tf.distribute.Strategy
    ) -> None:
        self._options = options
        self._replicas = strategy.num_replicas_in_sync
        self._variables = list(model.trainable_variables)
        with strategy.scope():
            self._since = own_copy(tf.zeros((), tf.int32))
            self._common = [own_copy(v.value) for v in self._variables]
            self._velocity = [own_copy(tf.zeros(v.shape, v.dtype)) for v in self._variables]

    @property
    def own_variables(self) -> list[tf.Variable]:
        """What it remembers from one meeting to the next."""
        return self._velocity

    def begin(self) -> None:
        """Takes the weights as they are now (restored, or set by the user) for the common ones."""
        for variable, common in zip(self._variables, self._common, strict=True):
            common.assign(variable.value)
        self._since.assign(0)

    def gradients(
        self, step: ReplicaStep, gradients: Sequence[Gradient], variables: Sequence[Variable]
    ) -> list[Gradient]:
        """Returns this replica's own gradients, scaled so that the replicas' mean is the sum."""
        del step, variables
        return [
            on_numbers(lambda v: v * tf.cast(self._replicas, v.dtype), gradient)
            for gradient in gradients
        ]

    def after_step(self, step: ReplicaStep) -> None:
        """Counts the step, and brings the weights together when H have been taken."""
        self._since.assign(self._since + 1)
        due = tf.equal(self._since, self._options.local_steps)
        tf.cond(due, lambda: self._meet(step), lambda: None)

    def meet(self, step: ReplicaStep) -> None:
        """Brings the weights together now, if any step was taken since the last time."""
        tf.cond(self._since > 0, lambda: self._meet(step), lambda: None)

    def _meet(self, step: ReplicaStep) -> None:
        rate, momentum = self._options.outer_learning_rate, self._options.outer_momentum
        sums = step.sum_over_replicas([tf.identity(v.value) for v in self._variables])
        for variable, total, common, velocity in zip(
            self._variables, sums, self._common, self._velocity, strict=True
        ):
            outer = tf.convert_to_tensor(common) - total / self._replicas
            moving = momentum * tf.convert_to_tensor(velocity) + outer
            velocity.assign(moving)
            common.assign(tf.convert_to_tensor(common) - rate * (outer + momentum * moving))
            write(step.strategy, variable.value, tf.convert_to_tensor(common))
        self._since.assign(0)
