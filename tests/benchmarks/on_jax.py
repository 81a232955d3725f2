"""Keras 3 on its JAX backend: `fit` under `keras.distribution.DataParallel`, gloo between workers.

Each worker reads its own rows, as Keras' guide has it.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any

import keras
import tensorflow as tf

from tests.benchmarks.models import REPLICA_BATCH, Model, arrays, compiled
from tests.benchmarks.turns import Assignment, Turns, fit_in_turns

__all__ = ["run"]


def run(assignment: Assignment, turns: Turns) -> None:
    """Takes this worker's turns."""
    config = json.loads(os.environ["TF_CONFIG"])
    rank, model = config["task"]["index"], assignment.model
    keras.distribution.initialize(config["cluster"]["worker"][0], assignment.workers, rank)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    turns.stage("strategy")
    network = compiled(keras, model)
    turns.stage("build")
    data = _rows(model, rank, assignment.workers)
    fit = functools.partial(network.fit, data, verbose=0 if rank else 1)
    fit_in_turns(turns, assignment, keras.callbacks.Callback, fit)


def _rows(model: Model, rank: int, workers: int) -> Any:
    """This worker's rows of the global batches."""
    whole = arrays(model, REPLICA_BATCH * workers)
    x, y = (one.reshape(-1, REPLICA_BATCH, *one.shape[1:]) for one in whole)
    own = tf.data.Dataset.from_tensor_slices((x[rank::workers], y[rank::workers]))
    return own.cache().repeat()
