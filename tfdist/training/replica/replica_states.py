"""The values of variables that each replica has for itself: read, and set in another run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdist.errors import CheckpointError

__all__ = ["check_shapes", "read", "shared_out", "write"]


def read(
    strategy: tf.distribute.Strategy, variables: Sequence[tf.Variable], count: int
) -> list[list[np.ndarray]]:
    """Returns, for each of the `count` replicas of this process, the values of the variables."""
    parts = [strategy.experimental_local_results(variable) for variable in variables]
    return [[np.asarray(part[min(i, len(part) - 1)]) for part in parts] for i in range(count)]


def write(
    strategy: tf.distribute.Strategy,
    variables: Sequence[tf.Variable],
    values: Sequence[Sequence[np.ndarray]],
) -> None:
    """Sets the variables of each replica of this process to what `read` has returned for it.

    Raises:
        CheckpointError: they were read of other variables.
    """
    for replica in values:
        check_shapes(replica, variables)
    for k, variable in enumerate(variables):
        for i, part in enumerate(strategy.experimental_local_results(variable)):
            part.assign(values[i][k])


def check_shapes(
    values: Sequence[np.ndarray], variables: Sequence[tf.Variable | np.ndarray]
) -> None:
    """Checks that values are of these variables, or of arrays of their shapes.

    Raises:
        CheckpointError: they are not.
    """
    if [np.shape(value) for value in values] != [tuple(variable.shape) for variable in variables]:
        raise CheckpointError(
            "the checkpoint's metrics have other variables than the model's: compile the model as "
            "in the run that wrote it, or begin anew with resume=False"
        )


def shared_out(
    states: Sequence[Sequence[np.ndarray]], aggregations: Sequence[str], replicas: int
) -> list[list[np.ndarray]]:
    """Turns the metrics of some replicas into those of another number, which sum to the same.

    Args:
        states: each replica's, in the order of the replicas.
        aggregations: of each variable, as Keras names them: what the states of replicas make.
        replicas: how many there are now.
    """
    if len(states) == replicas:
        return [list(state) for state in states]
    made: list[list[np.ndarray]] = [[] for _ in range(replicas)]
    for k, aggregation in enumerate(aggregations):
        values = [np.asarray(state[k]) for state in states]  # a float64 is read as a float
        for i in range(replicas):
            if aggregation == "sum":
                total = np.sum(values, axis=0, dtype=values[0].dtype)
                made[i].append(total if i == 0 else np.zeros_like(total))
            elif aggregation == "mean":
                made[i].append(np.mean(values, axis=0, dtype=values[0].dtype))
            else:
                made[i].append(values[0])
    return made
