"""tf_keras, the Keras 2 of TensorFlow: `fit` with one or with many steps an execution."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import tensorflow as tf

from tests.benchmarks.models import REPLICA_BATCH, compiled, dataset
from tests.benchmarks.turns import Assignment, Turns, fit_in_turns

__all__ = ["run"]

tf_keras: Any = importlib.import_module("tf_keras")  # it carries no types


def run(assignment: Assignment, turns: Turns) -> None:
    """Takes this worker's turns."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    turns.stage("strategy")
    model = assignment.model
    data = dataset(tf, model, REPLICA_BATCH * strategy.num_replicas_in_sync)
    with strategy.scope():
        steps = int(assignment.variant.way)
        network = compiled(tf_keras, model, steps_per_execution=steps)
    turns.stage("build")
    verbose = 1 if strategy.cluster_resolver.task_id == 0 else 0
    fit = functools.partial(network.fit, data, verbose=verbose)
    fit_in_turns(turns, assignment, tf_keras.callbacks.Callback, fit)
