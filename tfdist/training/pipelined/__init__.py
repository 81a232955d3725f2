"""Model parallelism: the layers of a model on several devices, a batch in microbatches.

To the epoch loop a pipeline is one replica that takes whole batches. `layer_graph` cuts the model,
`executor` writes a step slot by slot as a schedule says; `ordering` makes TensorFlow keep to it.
"""

from __future__ import annotations

import functools

import keras
import tensorflow as tf

from tfdist.strategies import registry
from tfdist.strategies.layout import ReplicaLayout
from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.training.loop.family import FamilyKind
from tfdist.training.pipelined.pipeline_programs import PipelinePrograms
from tfdist.training.plug_options import FAMILY_OPTIONS, TrainingOptions
from tfdist.training.synchronous.synchronous import Synchronous
from tfdist.training.tensor_parallel.splitting import split_model

__all__ = ["PipelineKind"]


class PipelineKind(FamilyKind):
    """tfdist's own `PipelineStrategy`."""

    name = "pipeline"
    options = FAMILY_OPTIONS["pipeline"]

    def has(self, strategy: tf.distribute.Strategy) -> bool:
        """Whether it is a pipeline."""
        return isinstance(strategy, PipelineStrategy)

    def make(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        options: TrainingOptions,
        prepared: object,
    ) -> Synchronous:
        """What takes the steps of a model; see `FamilyKind`."""
        registry.let_go_of_functions(strategy)
        split_model(model, strategy)
        programs = functools.partial(PipelinePrograms, options=options)
        return Synchronous(model, strategy, layout, options, programs)
