"""Steps of a model of one stage whose layers' order nobody knows: they are taken as they stand.

Only the weights that are cut over devices make them other ones than plain Keras'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from tfdist.compat import keras_trainer
from tfdist.errors import PlugError
from tfdist.strategies.layout import ReplicaLayout
from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.structures import Nest
from tfdist.training.mode import Mode
from tfdist.training.peers.lost_servers import told_of_lost_servers
from tfdist.training.pipelined.optimizer_update import updates_in_place
from tfdist.training.pipelined.variable_places import place_variables
from tfdist.training.replica.local_state import LocalState
from tfdist.training.replica.step_logs import StepLogs
from tfdist.training.synchronous.replica_programs import ReplicaPrograms
from tfdist.training.tensor_parallel.own_parts import OwnParts
from tfdist.training.tensor_parallel.split_weight import number_of

__all__ = ["UncutPrograms"]


class UncutPrograms(ReplicaPrograms):
    """Steps of a subclassed model with weights in parts; see `ReplicaPrograms`.

    Args:
        model: built.
        strategy: of one stage.
        layout: one replica.
        logs: sorts what a step returns.
        local: nothing: each variable is in one place.

    Raises:
        PlugError: several replicas share each batch, or XLA is to compile the step.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: PipelineStrategy,
        layout: ReplicaLayout,
        logs: StepLogs,
        local: LocalState,
    ) -> None:
        kind = type(model).__name__
        if strategy.plan.replicas > 1:
            raise PlugError(
                f"{kind} is neither Sequential nor functional, and replicas="
                f"{strategy.plan.replicas}: which rows each replica takes is told to the layers of "
                "those two alone; build it from keras.Input to keras.Model(inputs, outputs), or "
                "leave replicas out"
            )
        if model.jit_compile:
            raise PlugError(
                f"jit_compile=True, but the weights of {kind} are on several devices, for which "
                "XLA does not compile: compile with jit_compile=False"
            )
        super().__init__(model, strategy, layout, logs, local)
        self._lost = strategy
        first = strategy.device(0, 0)
        homes = {id(v): strategy.device(0, 0, number_of(v)) for v in model.variables}
        place_variables(model, homes, otherwise=first, metrics=first)
        strategy.run_on(first)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """For all that traces and runs steps; see `Programs`.

        Raises:
            TaskLost: a task with some of the weights is.
        """
        what = "a part of the weights"
        with (
            told_of_lost_servers(self._lost, ("worker",), what),
            updates_in_place(self._lost.device(0, 0)),
        ):
            yield

    def one_step(
        self, mode: Mode, may_be_absent: bool, parts: tuple[Nest, ...], *numbers: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """One step; what it computes of a part of a weight alone is refused."""
        if not keras_trainer.overrides(self._model, f"{mode}_step"):
            return super().one_step(mode, may_be_absent, parts, *numbers)
        own = OwnParts(self._model)
        with own.seen():
            logs = super().one_step(mode, may_be_absent, parts, *numbers)
        own.check_logs(logs)
        return logs
