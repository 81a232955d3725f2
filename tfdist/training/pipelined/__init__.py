"""Model parallelism: the layers of a model on several devices, a batch in microbatches.

To the epoch loop a pipeline is one replica that takes whole batches.

`pipeline_programs.py`: the steps of a pipeline, and which models it refuses; "stage 0 on ...".
`layer_graph.py`: how a model is cut into stages: `stages`, `place`, a `memory_limit`.
`layer_estimates.py`: what a layer is taken to cost: operations and bytes.
`layer_costs.py`: `tfdist.pipeline.measure_costs`.
`executor.py`: a step as a program, slot by slot; `recompute`.
`ordering.py`: control dependencies that make TensorFlow keep to the schedule.
`microbatch.py`: the rows of each microbatch, and what is known of it.
`segment.py`: the forward of the layers of a stage.
`weight_gradients.py`: gradients of weights apart, and of several microbatches at once
    ("zero_bubble").
`gradient_sums.py`: gradients added up over microbatches and replicas; regularizers once a step.
`variable_values.py`: variables, read at a step's beginning, written at its end.
`optimizer_update.py`: the optimizer's update, each variable on its own device; gradients that are
    accumulated.
`own_step.py`: a class's own `train_step`.
`variable_places.py`: which device each variable goes to, and its slots.
`uncut_programs.py`: a subclassed model, of one stage: only weights are cut.
`stage_prediction.py`: `predict` through the stages.
`slot_stamps.py`: when each slot of a real step begins and ends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from tfdist.strategies import registry
from tfdist.strategies.layout import ReplicaLayout
from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.training.loop.family import FamilyKind
from tfdist.training.pipelined.layer_graph import is_functional
from tfdist.training.pipelined.pipeline_programs import PipelinePrograms
from tfdist.training.pipelined.uncut_programs import UncutPrograms
from tfdist.training.plug_options import FAMILY_OPTIONS, TrainingOptions
from tfdist.training.synchronous import check_losses
from tfdist.training.synchronous.replica_programs import Programs
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
        assert isinstance(strategy, PipelineStrategy)
        split_model(model, strategy)
        programs: Callable[..., Programs] = functools.partial(PipelinePrograms, options=options)
        if strategy.plan.num_stages == 1 and not is_functional(model):
            programs = UncutPrograms
        return Synchronous(model, strategy, layout, options, programs)

    def check(self, model: keras.Model, strategy: tf.distribute.Strategy) -> None:
        """Microbatches put one loss together; see `FamilyKind`."""
        del strategy
        if is_functional(model):
            check_losses(model, "microbatches put one number together")
