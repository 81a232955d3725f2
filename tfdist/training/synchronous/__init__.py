"""Replicas that train in step: one device, mirrored and multi-worker mirrored.

The kind below says what is refused of models and options: `virtual_replicas`, `shard_optimizer`,
losses without a reduction.

`synchronous.py`: chunks of steps; when metrics and weights are brought together.
`replica_programs.py`: a step on the replicas, and a loop of them, as TensorFlow programs.
`step_loop.py`: the loop of steps; a GPU's next batch travels meanwhile.
`exchange.py`: in which type gradients travel (`gradient_dtype`), or weights in place of them
    (`local_steps`).
`metric_reduction.py`: metrics of all replicas, summed when they are read.
`replica_prediction.py`: `predict` over the replicas, in the data's order.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdist import log, process
from tfdist.compat import keras_layers, keras_trainer
from tfdist.errors import PlugError
from tfdist.strategies import own_gpus, registry
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Callbacks
from tfdist.training.loop import callback_routing
from tfdist.training.loop.family import FamilyKind
from tfdist.training.plug_options import FAMILY_OPTIONS, TrainingOptions
from tfdist.training.replica.ordered_sum import OrderedSum
from tfdist.training.slot_shards.sharded_slots import ShardedSlots
from tfdist.training.synchronous.replica_programs import ReplicaPrograms
from tfdist.training.synchronous.synchronous import Synchronous

__all__ = ["SynchronousKind", "check_losses"]


class SynchronousKind(FamilyKind):
    """Strategies of TensorFlow whose replicas hold a copy of each variable."""

    name = "synchronous"
    options = FAMILY_OPTIONS["synchronous"]

    def has(self, strategy: tf.distribute.Strategy) -> bool:
        """All that TensorFlow and tfdist train on, but for the other families' own."""
        return True

    def make(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        options: TrainingOptions,
        prepared: object,
    ) -> Synchronous:
        """What takes the steps of a model; see `FamilyKind`."""
        shards: ShardedSlots | None = prepared  # type: ignore[assignment]
        if options.virtual_replicas is None:
            return Synchronous(model, strategy, layout, options, shards=shards)
        check_losses(model, "several replicas need one number")
        rows = self.rows(layout, options)
        _warn_of_what_moves_bits(model)
        programs = functools.partial(ReplicaPrograms, virtual=OrderedSum(strategy, rows))
        return Synchronous(model, strategy, layout, options, programs, rows, shards)

    def prepare(
        self, model: keras.Model, strategy: tf.distribute.Strategy, options: TrainingOptions
    ) -> ShardedSlots | None:
        """Returns what has optimizers share out their slots, where that is asked for."""
        layout = registry.layout_of(strategy)
        if not options.shard_optimizer or layout.replicas == 1:
            return None
        if layout.workers > 1 and layout.local > 1:
            raise PlugError(
                f"shard_optimizer where each of {layout.workers} workers has {layout.local} "
                "devices: start one task for each device, or leave shard_optimizer out"
            )
        return ShardedSlots(model, strategy, layout)

    def before_build(self, prepared: ShardedSlots | None) -> None:
        """Optimizers that are to share out their slots never make whole ones; see `FamilyKind`."""
        if prepared is not None:
            prepared.adopt()

    def check_callbacks(
        self, callbacks: Callbacks, strategy: tf.distribute.Strategy, options: TrainingOptions
    ) -> None:
        """Callbacks that look at whole slots must do so where they can be had; see `FamilyKind`."""
        if not options.shard_optimizer or registry.layout_of(strategy).replicas == 1:
            return
        for callback in callback_routing.flat(callbacks):
            if isinstance(callback, keras.callbacks.SwapEMAWeights):
                raise PlugError(
                    "SwapEMAWeights with shard_optimizer: the averages that it swaps in are spread "
                    "over the replicas; leave one of the two out"
                )
            frequency = getattr(callback, "save_freq", "epoch")
            if frequency != "epoch":
                raise PlugError(
                    f"{type(callback).__name__}(save_freq={frequency!r}) with shard_optimizer: the "
                    "chief writes it alone, and has its share of the slots; take "
                    "tfdist.callbacks.Checkpoint(every_steps=...), or save_freq='epoch'"
                )

    def gpus(self, strategy: tf.distribute.Strategy, options: TrainingOptions) -> Sequence[str]:
        """All replicas', which virtual ones share; see `FamilyKind`."""
        return () if options.virtual_replicas else own_gpus.of_replicas(strategy)

    def rows(self, layout: ReplicaLayout, options: TrainingOptions) -> ReplicaLayout:
        """Of virtual replicas there are as many as the options say; see `FamilyKind`."""
        virtual = options.virtual_replicas
        if virtual is None:
            return layout
        if layout.local > 1:
            raise PlugError(
                f"virtual_replicas={virtual} where this process has {layout.local} devices: "
                "virtual replicas share one; use a strategy of one device a process"
            )
        if virtual < layout.workers:
            raise PlugError(
                f"virtual_replicas={virtual} for {layout.workers} workers: give at least one for "
                "each worker"
            )
        return layout.virtual(virtual)

    def is_shared_out(self, layout: ReplicaLayout) -> bool:
        """Over several replicas, that is."""
        return layout.replicas > 1

    def check(self, model: keras.Model, strategy: tf.distribute.Strategy) -> None:
        """Checks what a model was compiled with; see `FamilyKind`."""
        if strategy.num_replicas_in_sync == 1:
            return
        _tell_of_normalization(model)
        if model.jit_compile and type(model).train_step is not keras.Model.train_step:
            raise PlugError(
                f"{type(model).__name__} has a train_step of its own, which cannot be compiled "
                "over several replicas (the update must stay outside): compile the model with "
                "jit_compile=False, or override compute_loss instead"
            )
        _check_normalization(model)
        check_losses(model, "several replicas need one number")


def _tell_of_normalization(model: keras.Model) -> None:
    """Says what Keras leaves to each replica, unless it is asked not to."""
    kinds = keras.layers.BatchNormalization
    own = [
        layer.name
        for layer in keras_layers.all_layers(model)
        if isinstance(layer, kinds) and not layer.synchronized
    ]
    if own:
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        log.warning(
            "%s%s: each replica normalizes by its own rows, so results are not those of one "
            "machine; BatchNormalization(synchronized=True) takes all",
            own[0],
            more,
        )


def _check_normalization(model: keras.Model) -> None:
    """Checks that XLA is not asked to compile what it has no operation for."""
    kinds = keras.layers.BatchNormalization
    for layer in keras_layers.all_layers(model) if model.jit_compile else ():
        if isinstance(layer, kinds) and layer.synchronized and not own_gpus.visible():
            raise PlugError(
                f"jit_compile=True with {layer.name}, a BatchNormalization(synchronized=True): on "
                "CPUs XLA does not compile what its replicas exchange; compile the model with "
                "jit_compile=False"
            )


def check_losses(model: keras.Model, needs: str) -> None:
    """Checks that a model's losses are one number each.

    Args:
        model: a compiled model.
        needs: why they must be, in a few words.

    Raises:
        PlugError: one has `reduction=None`.
    """
    for loss in keras_trainer.flat_losses(model):
        if getattr(loss, "reduction", "mean") in (None, "none"):
            raise PlugError(
                f"the loss {loss.name!r} has reduction=None, which gives one loss per example; "
                f'{needs}: use reduction="sum_over_batch_size", "sum" or "mean_with_sample_weight"'
            )


def _warn_of_what_moves_bits(model: keras.Model) -> None:
    """Says what virtual replicas cannot do, and what their bits depend on."""
    if model.jit_compile and not model.run_eagerly:
        log.warning("virtual_replicas without XLA: jit_compile is left out of this training")
    threads = tf.config.threading.get_intra_op_parallelism_threads() or process.threads()
    if threads != 1:
        log.warning(
            "virtual_replicas with %d threads in this task: its weights have the bits of tasks "
            "with as many threads only; give every task one (tfdist run --threads 1)",
            threads,
        )
