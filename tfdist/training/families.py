"""Which family of strategies trains a model, and what belongs to each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfdist.strategies import registry
from tfdist.strategies.layout import ReplicaLayout
from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.training.data.per_worker import PerWorkerData
from tfdist.training.data.stream import Stream
from tfdist.training.embeddings.embedding_tables import EmbeddingTables
from tfdist.training.loop.epoch_loop import Loop
from tfdist.training.loop.family import Family
from tfdist.training.parameter_server.asynchronous import Asynchronous
from tfdist.training.parameter_server.worker_pipelines import WorkerPipelines
from tfdist.training.parameter_server.worker_prediction import WorkersPrediction
from tfdist.training.pipelined.pipelined import Pipelined
from tfdist.training.pipelined.stage_prediction import PipelinedPrediction
from tfdist.training.plug_options import TrainingOptions
from tfdist.training.synchronous.replica_prediction import Prediction
from tfdist.training.synchronous.synchronous import Synchronous

__all__ = [
    "kind_of",
    "make_family",
    "make_prediction",
    "own_data",
    "predicts_as_keras",
    "tables_of",
]


def kind_of(strategy: tf.distribute.Strategy) -> str:
    """Returns "synchronous", "parameter_server" or "pipeline"."""
    if isinstance(strategy, PipelineStrategy):
        return "pipeline"
    servers = isinstance(strategy, tf.distribute.ParameterServerStrategy)
    return "parameter_server" if servers else "synchronous"


def tables_of(
    model: keras.Model, strategy: tf.distribute.Strategy, options: TrainingOptions
) -> EmbeddingTables:
    """Shards the model's large embeddings, where its variables live on parameter servers."""
    if kind_of(strategy) != "parameter_server":
        return EmbeddingTables()
    return EmbeddingTables.of(model, registry.count_tasks("ps"), options)


def make_family(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    layout: ReplicaLayout,
    options: TrainingOptions,
    tables: EmbeddingTables,
) -> Family:
    """Returns what takes the model's steps."""
    if kind_of(strategy) == "parameter_server":
        tables.prepare()
        return Asynchronous(model, strategy, layout, options, tables)
    if kind_of(strategy) == "pipeline":
        return Pipelined(model, strategy, layout, options)
    return Synchronous(model, strategy, layout, options)


def make_prediction(loop: Loop) -> Any:
    """Returns what predicts for the model of a loop."""
    family = loop.family
    if isinstance(family, Asynchronous):
        return WorkersPrediction(loop, family)
    if isinstance(family, Pipelined):
        return PipelinedPrediction(family)
    assert isinstance(family, Synchronous)
    return Prediction(loop, family)


def predicts_as_keras(kind: str, layout: ReplicaLayout) -> bool:
    """Whether plain Keras predicts: on one device it does all there is to do."""
    return kind != "parameter_server" and layout.replicas == 1


def own_data(
    strategy: tf.distribute.Strategy,
    layout: ReplicaLayout,
    function: Callable[..., Any],
    steps: int | None,
) -> Stream:
    """Returns the data that workers read for themselves."""
    if kind_of(strategy) == "parameter_server":
        coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        return WorkerPipelines(layout, coordinator, registry.count_tasks("worker"), function, steps)
    return PerWorkerData(layout, function, steps)
