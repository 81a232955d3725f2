"""The values of a pipeline's variables in one step: read at its beginning, written at its end.

What layers write (the moving statistics of BatchNormalization, the states of random numbers) goes
from microbatch to microbatch as tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.training.pipelined.layer_graph import Segment, Stage
from tfdist.training.tensor_parallel.split_weight import number_of

__all__ = ["State", "assign", "copies"]

_SEED_STRIDE = 1_000_003


class State:
    """The variables of the stages; replicas beyond the first get copies on their devices.

    Args:
        strategy: where the stages run.
        stages: of the pipeline.

    Attributes:
        variables: by their identities.
        first: their values at the step's beginning, of each replica.
        now: their values for the next microbatch, of each replica.
    """

    def __init__(self, strategy: PipelineStrategy, stages: Sequence[Stage]) -> None:
        self.variables: dict[int, keras.Variable] = {}
        places: dict[int, set[int]] = {}
        for stage in stages:
            for segment in stage.segments:
                for variable in segment.variables:
                    self.variables[id(variable)] = variable
                    places.setdefault(id(variable), set()).add(segment.task)
        self.now: list[dict[int, tf.Tensor]] = []
        for replica in range(strategy.plan.replicas):
            read = {}
            for key, variable in self.variables.items():
                with tf.device(variable.value.device):
                    value = self.now[0][key] if replica else variable.value
                    # Reading has no device of its own: a loop over it (an LSTM's) would begin on
                    # the chief, and send the weights from there with each turn.
                    value = tf.identity(value)
                if replica and len(places[key]) == 1:
                    part = number_of(variable)
                    with tf.device(strategy.device(replica, min(places[key]), part)):
                        value = _of_replica(replica, variable, value)
                read[key] = value
            self.now.append(read)
        self.first = [dict(values) for values in self.now]

    def of(self, replica: int, segment: Segment) -> dict[int, tf.Tensor]:
        """The values of a segment's variables."""
        return {id(v): self.now[replica][id(v)] for v in segment.variables}

    def assign(self) -> None:
        """Writes what the layers wrote; over replicas the mean of what is no integer."""
        for key, first in self.first[0].items():
            variable = self.variables[key]
            if all(now[key] is begun[key] for now, begun in zip(self.now, self.first, strict=True)):
                continue
            with tf.device(variable.value.device):
                value = self.now[0][key]
                if len(self.now) > 1 and first.dtype.is_floating:
                    value = tf.add_n([now[key] for now in self.now]) / len(self.now)
            assign(variable, value)


def assign(variable: keras.Variable, value: tf.Tensor) -> None:
    """Assigns to a variable where it is."""
    with tf.device(variable.value.device):
        variable.assign(value)


def copies(values: Mapping[int, tf.Tensor]) -> dict[int, tf.Tensor]:
    """The same tensors under other names, each on its own device."""
    found = {}
    for key, value in values.items():
        with tf.device(value.device):
            found[key] = tf.identity(value)
    return found


def _of_replica(replica: int, variable: keras.Variable, value: tf.Tensor) -> tf.Tensor:
    """A replica's copy of a variable; each draws random numbers of its own."""
    value = tf.identity(value)
    if variable.name == "seed_generator_state":
        offset = tf.constant(_SEED_STRIDE * replica, tf.int64)
        value += tf.cast(tf.stack([offset, tf.zeros_like(offset)]), value.dtype)
    return value
