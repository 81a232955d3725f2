"""Asynchronous training: a chief hands out steps, workers take them, servers keep the variables.

The kind below says which models are refused: eager, compiled by XLA, with a loss scale or
accumulated gradients.

`asynchronous.py`: the chief's side: how much is handed out ahead (two chunks a worker), how long
    chunks are, `warm_start`; "lost all N workers, and none has come back".
`work_queue.py`: what workers have been given: what happens to the steps of a lost worker (they run
    again on another one, whose result comes once).
`chunk_tickets.py`: what a chunk under way holds: its slot and its part of the bound.
`step_numbers.py`: the numbers by which a server knows a step that comes twice.
`server_updates.py`: how a server makes each update once, as a whole or not at all.
`optimizer_updates.py`: optimizers' own code, next to the variables, weight decay too.
`whole_batches.py`: `backup_workers`: each batch one update, cut in parts for the workers.
`backup_tasks.py`: which part is late and handed out twice (after 1.5 times the usual), and which
    worker is left out as slow. Pure.
`part_step.py`: a part as a worker computes it, and the update of all parts.
`part_buffers.py`: where parts wait on the servers until all are there.
`staleness_bound.py`: `max_staleness`: which chunk may be handed out. Pure.
`staleness_count.py`: how many steps an update has missed: the histogram.
`worker_step.py`: a step as a worker takes it: what is fetched and sent; `push_every`,
    `fetch_every`.
`worker_programs.py`: a chunk of steps as a TensorFlow program.
`batch_messages.py`: batches on their way to a worker, several in one message.
`worker_pipelines.py`: workers that read their own data; one that comes back begins it anew.
`worker_prediction.py`: `predict` by workers, in the data's order.
`metric_totals.py`: workers' metrics, summed on the chief and written back.
`placement.py`: the table at the start that shows which variable is on which server; TensorFlow
    has placed them, as `strategies/parameter_server.py` asks it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfdist.errors import PlugError
from tfdist.strategies import registry
from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.embeddings.embedding_tables import EmbeddingTables
from tfdist.training.loop.family import FamilyKind
from tfdist.training.parameter_server.asynchronous import Asynchronous
from tfdist.training.parameter_server.whole_batches import WholeBatches, check_backup_workers
from tfdist.training.parameter_server.worker_pipelines import WorkerPipelines
from tfdist.training.plug_options import FAMILY_OPTIONS, TrainingOptions

__all__ = ["ParameterServerKind"]


class ParameterServerKind(FamilyKind):
    """`tf.distribute.ParameterServerStrategy`, on the chief of its job."""

    name = "parameter_server"
    home = "on a parameter server"
    options = FAMILY_OPTIONS["parameter_server"]

    def has(self, strategy: tf.distribute.Strategy) -> bool:
        """Whether it is one with servers."""
        return isinstance(strategy, tf.distribute.ParameterServerStrategy)

    def prepare(
        self, model: keras.Model, strategy: tf.distribute.Strategy, options: TrainingOptions
    ) -> EmbeddingTables:
        """Shards the model's large embeddings, or sees that the workers are enough."""
        if options.backup_workers is not None:
            check_backup_workers(options.backup_workers, registry.count_tasks("worker"))
            options = dataclasses.replace(options, shard_embeddings_from=None)
        return EmbeddingTables.of(model, registry.count_tasks("ps"), options)

    def make(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        options: TrainingOptions,
        prepared: EmbeddingTables,
    ) -> Asynchronous:
        """What takes the steps of a model; see `FamilyKind`."""
        registry.let_go_of_functions(strategy)
        prepared.prepare()
        if options.backup_workers is not None:
            return WholeBatches(model, strategy, layout, options, prepared)
        return Asynchronous(model, strategy, layout, options, prepared)

    def own_data(
        self,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        function: Callable[..., Any],
        steps: int | None,
    ) -> WorkerPipelines:
        """The data that workers read for themselves; see `FamilyKind`."""
        coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        workers = registry.count_tasks("worker")
        return WorkerPipelines(layout, coordinator, workers, function, steps)

    def is_at_home(self, strategy: tf.distribute.Strategy, variable: tf.Variable) -> bool:
        """Whether a variable is on a server."""
        return "/job:ps/" in str(variable.device)

    def check(self, model: keras.Model, strategy: tf.distribute.Strategy) -> None:
        """Checks what a model was compiled with; see `FamilyKind`."""
        optimizer = model.optimizer
        if model.run_eagerly:
            raise PlugError(
                "run_eagerly=True, but workers of a parameter-server job run graphs: compile the "
                "model without it, and look at single steps in one process"
            )
        if model.jit_compile is True:
            raise PlugError(
                "jit_compile=True, but what a worker computes spans several machines: compile the "
                "model without it"
            )
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise PlugError(
                "a LossScaleOptimizer (mixed_float16), whose scale several workers would change at "
                "the same time: use the policy mixed_bfloat16, or float32"
            )
        if getattr(optimizer, "gradient_accumulation_steps", None):
            raise PlugError(
                "gradient_accumulation_steps, whose sums several workers would change at the same "
                "time: leave it out, and give tfdist.plug(model, push_every=...)"
            )
