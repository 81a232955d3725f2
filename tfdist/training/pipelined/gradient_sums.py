"""The gradients of one step, added up over microbatches, stages and replicas."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import keras
import tensorflow as tf

from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.structures import Gradient
from tfdist.training.pipelined.layer_graph import Stage
from tfdist.training.replica.sparse_gradients import Lookup, joined, lookup_of
from tfdist.training.tensor_parallel.split_weight import number_of

__all__ = ["Gradients", "Penalties", "total"]

_SUMMED_AT_ONCE = 2
"""Gradients that are kept until they are added up: fewer additions pass over the memory less often,
more keep more of them alive."""


class Gradients:
    """Adds gradients up where they are computed.

    Args:
        strategy: where the stages run.
        stages: of the pipeline.
    """

    def __init__(self, strategy: PipelineStrategy, stages: Sequence[Stage]) -> None:
        self._strategy = strategy
        self._stages = stages
        self._found: dict[tuple[int, int, int], list[Gradient]] = {}
        self._lookups: dict[int, set[Lookup]] = {}

    def see(self, gradients: Mapping[int, Gradient], rows: int | tf.Tensor) -> None:
        """Notes whose rows a microbatch's gradients name, by the identities of the variables.

        Of their sum nobody could tell: ids that are constant are its examples' own where they are
        the same for each of its rows.
        """
        for key, gradient in gradients.items():
            whose = lookup_of(gradient, rows if isinstance(rows, int) else None)
            self._lookups.setdefault(key, set()).add(whose)

    def add(self, replica: int, stage: int, key: int, gradient: Gradient) -> list[tf.Tensor]:
        """Adds a variable's gradient by one microbatch; returns what has to be computed for it."""
        kept = self._found.setdefault((replica, stage, key), [])
        kept.append(gradient)
        after = list(tf.nest.flatten(gradient, expand_composites=True))
        dense = not any(isinstance(g, tf.IndexedSlices) for g in kept)
        if len(kept) >= _SUMMED_AT_ONCE and dense:
            kept[:] = [tf.add_n(kept)]
            after.append(kept[0])
        return after

    def sums(
        self, variables: dict[int, keras.Variable], penalties: Penalties
    ) -> dict[int, Gradient]:
        """Returns each variable's gradient, on its device.

        Args:
            variables: by their identities.
            penalties: whose gradients are added.
        """
        by_variable: dict[int, list[Gradient]] = {}
        for (replica, stage, key), found in self._found.items():
            segment = next(
                s for s in self._stages[stage].segments if key in {id(v) for v in s.variables}
            )
            part = number_of(variables[key])
            with tf.device(self._strategy.device(replica, segment.task, part)):
                by_variable.setdefault(key, []).append(total(found, self._lookups[key]))
        for key, penalty in penalties.gradients().items():
            by_variable.setdefault(key, []).append(penalty)
        sums = {}
        for key, found in by_variable.items():
            with tf.device(variables[key].value.device):
                sums[key] = total(found, self._lookups.get(key, ()))
        return sums


class Penalties:
    """The losses of the regularizers, each computed once a step on its variable's device.

    Args:
        variables: the trainable weights of the model.
        values: of all variables, by their identities.

    Attributes:
        losses: by the identity of a variable.
    """

    def __init__(self, variables: Sequence[keras.Variable], values: dict[int, tf.Tensor]) -> None:
        self.losses: dict[int, tf.Tensor] = {}
        self._tapes: dict[int, tuple[tf.GradientTape, keras.Variable, tf.Tensor]] = {}
        self._cotangents: dict[int, list[tf.Tensor]] = {}
        for variable in variables:
            if variable.regularizer is None:
                continue
            key = id(variable)
            value = values[key]
            tape = tf.GradientTape(watch_accessed_variables=False)
            with tf.device(variable.value.device), tape:
                tape.watch(value)
                self.losses[key] = variable.regularizer(value)
            self._tapes[key] = tape, variable, value

    def give_back(self, key: int, cotangent: tf.Tensor | None) -> None:
        """Notes what one microbatch's loss gives back for a penalty."""
        if cotangent is not None:
            self._cotangents.setdefault(key, []).append(cotangent)

    def gradients(self) -> dict[int, Gradient]:
        """Returns the gradients by the identities of the variables."""
        found = {}
        for key, cotangents in self._cotangents.items():
            tape, variable, value = self._tapes[key]
            with tf.device(variable.value.device):
                gradient = tape.gradient(
                    self.losses[key], value, output_gradients=total(cotangents)
                )
            if gradient is not None:
                found[key] = gradient
        return found


def total(found: Sequence[Gradient], lookups: Collection[Lookup] = ()) -> Gradient:
    """The sum of gradients; sparse ones stay sparse where all are.

    Args:
        found: by several parts of a batch.
        lookups: whose rows the sparse ones name, as far as it counts.
    """
    if len(found) == 1:
        return found[0]
    sparse = [g for g in found if isinstance(g, tf.IndexedSlices)]
    if len(sparse) == len(found):
        return joined(sparse, lookups)
    return tf.add_n([tf.convert_to_tensor(g) for g in found])
