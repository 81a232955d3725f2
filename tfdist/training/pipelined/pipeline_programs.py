"""How a step is taken by a pipeline: the model's layers on several devices, in microbatches.

To the epoch loop it is one replica: it takes whole batches, and metrics are where they always are.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from tfdist import log
from tfdist.compat import keras_data, keras_trainer, tf_graphs
from tfdist.errors import PlugError
from tfdist.strategies import registry, step_clock
from tfdist.strategies.layout import ReplicaLayout
from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.structures import Nest, Traced
from tfdist.training.data.stream import AllGatherNumbers, rows_in, without_optionals
from tfdist.training.mode import Mode
from tfdist.training.peers.lost_servers import told_of_lost_servers
from tfdist.training.pipelined import layer_graph as graphs
from tfdist.training.pipelined.executor import Executor
from tfdist.training.pipelined.microbatch import Outcome
from tfdist.training.pipelined.optimizer_update import apply_gradients
from tfdist.training.pipelined.own_step import has_own_step, take_own_step
from tfdist.training.pipelined.stage_prediction import StagePrediction
from tfdist.training.pipelined.variable_places import place_variables
from tfdist.training.plug_options import TrainingOptions
from tfdist.training.replica.local_state import LocalState
from tfdist.training.replica.step import Exchange
from tfdist.training.replica.step_logs import StepLogs, recorded_results
from tfdist.training.slot_shards.sharded_slots import ShardedSlots
from tfdist.training.synchronous.step_loop import logs_of
from tfdist.training.tensor_parallel.split_weight import number_of
from tfdist.training.tracing import traced

__all__ = ["PipelinePrograms", "check_model"]


def check_model(model: keras.Model) -> None:
    """Checks that a model can be pipelined.

    Raises:
        PlugError: it is to run eagerly, or to be compiled by XLA as a whole.
    """
    if getattr(model, "run_eagerly", False):
        raise PlugError(
            "run_eagerly=True, but the order of a pipeline is that of one TensorFlow program: "
            "compile with run_eagerly=False"
        )
    if getattr(model, "jit_compile", False):
        raise PlugError(
            "jit_compile=True, but a pipeline's program spans several devices, which XLA does not "
            "compile: compile with jit_compile=False"
        )


class PipelinePrograms:
    """Steps of one model that a pipeline takes, of whole batches.

    Args:
        model: a built model; compiled, unless it is only to predict.
        strategy: the strategy in whose scope it was made.
        layout: one replica: the pipeline takes whole batches.
        logs: sorts what a step returns.
        local: nothing: each variable is in one place.
        options: where the split is to be taken from.

    Attributes:
        executor: runs a batch through the stages.
        exchange: None: gradients are summed where they are.
        shards: None: so are slots.
    """

    chunk_seconds = 2.0
    """Longer than elsewhere: at the end of a chunk the pipeline drains."""

    exchange: Exchange | None = None
    shards: ShardedSlots | None = None

    def __init__(
        self,
        model: keras.Model,
        strategy: PipelineStrategy,
        layout: ReplicaLayout,
        logs: StepLogs,
        local: LocalState,
        *,
        options: TrainingOptions,
    ) -> None:
        del layout, local
        check_model(model)
        self._model = model
        self._strategy = strategy
        self._logs = logs
        graph = graphs.graph_of(model)
        stages = graphs.cut(graph, strategy.plan, options.costs, options.memory_limit)
        self.executor = Executor(graph, stages, strategy)
        self._place()
        self._tell_the_stages()

    # ------------------------------------------------------------ variables

    def _place(self) -> None:
        """Moves every variable to the device of its stage, one at a time."""
        model, strategy = self._model, self._strategy
        home_of: dict[int, str] = {}
        for stage in self.executor.stages:
            for segment in stage.segments:
                for variable in segment.variables:
                    device = strategy.device(0, segment.task, number_of(variable))
                    home_of.setdefault(id(variable), device)
        place_variables(model, home_of, strategy.home, metrics=self.executor.last())

    def _tell_the_stages(self) -> None:
        for stage in self.executor.stages:
            names = [piece.name for piece in stage.pieces]
            seen = dict.fromkeys(
                self._strategy.plan.names_of(segment.task) for segment in stage.segments
            )
            log.info(
                "stage %d on %s: %s (%d layers)",
                stage.number,
                ", ".join(seen),
                names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}",
                len(names),
            )

    # ------------------------------------------------------------ steps

    separates_exchange = False  # stages compute at the same time

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """For all that traces and runs steps: says which workers are lost, if an error is of that.

        Raises:
            TaskLost: some are.
        """
        what = "a stage of the pipeline"
        with told_of_lost_servers(self._strategy, ("worker",), what), tf_graphs.unordered_stamps():
            yield

    def one(self, mode: Mode, may_be_absent: bool) -> Callable[..., dict[str, tf.Tensor]]:
        """What takes one step; see `Programs`."""
        run = functools.partial(self._one_step, mode, may_be_absent)
        return traced(run, reduce_retracing=True)

    def loop(self, mode: Mode, may_be_absent: bool, one: Traced) -> Traced:
        """What takes some steps; see `Programs`."""
        # Called across machines, `one`, a function of its own, would hold all of them up.
        step = functools.partial(self._one_step, mode, may_be_absent)
        if registry.membership_of(self._strategy) is not None:
            step_clock.ready(exchanges=False)

        def loop(
            iterator: tf.data.Iterator, steps: tf.Tensor, on_devices: tuple[Nest, ...]
        ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
            del on_devices  # each stage reads for itself

            def body(
                i: tf.Tensor, rows: tf.Tensor, _: dict[str, tf.Tensor]
            ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
                batch = step_clock.next_batch(iterator)
                return i + 1, rows + rows_in(batch.parts[0]), step(batch.parts)

            own = has_own_step(self._model, mode)
            logs, shapes = logs_of(one, iterator.element_spec) if own else ({}, {})
            start = (tf.constant(0), tf.zeros((), tf.int64), logs)
            _, rows, logs = tf.while_loop(
                lambda i, *_: i < steps,
                body,
                start,
                shape_invariants=(start[0].shape, start[1].shape, shapes),
                parallel_iterations=1,
            )
            return logs, tf.zeros((), tf.int64), rows

        return traced(loop, reduce_retracing=True)

    def _one_step(
        self, mode: Mode, may_be_absent: bool, parts: tuple[Nest, ...], *numbers: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        del may_be_absent, numbers
        data = without_optionals(parts[0])

        def step() -> dict[str, tf.Tensor]:
            if not has_own_step(self._model, mode):
                self.take_step(mode, data)
                return self._logs.sort(mode, self._model.get_metrics_result(), {})
            with recorded_results(self._model) as results:
                logs, _ = take_own_step(self.executor, mode, data)
                return self._logs.sort(mode, logs, results)

        return self._strategy.run(step)

    def take_step(self, mode: Mode, data: Nest, timed: bool = False) -> Outcome:
        """Writes one training or test step as Keras takes it; returns what its slots left."""
        model = self._model
        outcome = self.executor.run(mode, data, timed=timed)
        x, y, sample_weight = keras_data.unpack(data)
        tracker = keras_trainer.loss_tracker(model)
        with tf.device(self.executor.last()):
            if tracker is not None:
                rows = tf.shape(tf.nest.flatten(x)[0])[0]
                tracker.update_state(outcome.loss, sample_weight=rows)
            model.compute_metrics(x, y, outcome.outputs, sample_weight=sample_weight)
        if mode == "train":
            variables = model.trainable_weights
            gradients = [outcome.gradients.get(id(v)) for v in variables]
            apply_gradients(model.optimizer, gradients, variables, self._strategy.home)
        return outcome

    def timed_step(self, data: Nest) -> list[Outcome]:
        """Writes one training step; returns what the slots left, with the times of each."""
        if has_own_step(self._model, "train"):
            return take_own_step(self.executor, "train", data, timed=True)[1]
        return [self.take_step("train", data, timed=True)]

    def prediction(self, all_gather: AllGatherNumbers) -> StagePrediction:
        """What predicts; see `Programs`."""
        return StagePrediction(self._model, self._strategy, self.executor, all_gather)
