"""What a family of strategies is: how steps run, how metrics come back, and what belongs to it.

A family is a room of its own. Its `FamilyKind`, which the room registers in `training.families`,
holds for all of its models; its `Family` takes the steps of one of them. Nothing else asks which
family it is that it works with.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Callbacks, Logs
from tfdist.training.data.per_worker import InputFunction, PerWorkerData
from tfdist.training.data.stream import Step, Stream
from tfdist.training.loop.chunking import ChunkLength
from tfdist.training.loop.prediction import Prediction
from tfdist.training.mode import Mode
from tfdist.training.peers.drift import DriftCheck
from tfdist.training.plug_options import TrainingOptions

__all__ = ["Chunk", "Family", "FamilyKind"]

Chunk: TypeAlias = Callable[[], tuple[int, Logs]]
"""Runs some steps; returns how many, and the logs of the epoch so far."""


class Family(Protocol):
    """Takes the steps of one plugged model.

    Attributes:
        model: a built and compiled model.
        strategy: in whose scope it was made.
        layout: the replicas, as this process sees them.
        drift: compares the processes' models.
        chunk_seconds: what the steps between two looks should take.
        at_rest: whether no step is on its way: then the variables are those of the steps that
            chunks have told of.
    """

    model: keras.Model
    strategy: tf.distribute.Strategy
    layout: ReplicaLayout
    drift: DriftCheck
    chunk_seconds: float

    @property
    def at_rest(self) -> bool:
        """See above."""

    def working(self) -> contextlib.AbstractContextManager[None]:
        """For all that traces and runs steps: may explain their errors."""

    def chunks(
        self, mode: Mode, data: Stream, chunk_length: ChunkLength
    ) -> Generator[Chunk, None, None]:
        """Yields, until an epoch's data end, what runs the next steps.

        Args:
            mode: "train" or "test".
            data: the epoch has begun.
            chunk_length: how many steps between two looks.
        """

    def tells_apart(self, data: Stream) -> Collection[str]:
        """Which of "input" and "exchange" the clock of a `fit` tells from computing, until now.

        Args:
            data: of the `fit`.
        """

    def on_batch(self, mode: Mode, step: Step) -> Logs:
        """Takes one step by itself; returns its logs."""

    def reset_metrics(self) -> None:
        """Sets every metric back, wherever its parts are."""

    def all_gather(self, numbers: Sequence[float]) -> np.ndarray:
        """Shows this process's numbers to all that run the loop; returns `[processes, n]`."""

    def prepare_to_train(self) -> None:
        """Makes what training needs, before steps are traced."""

    def retrace(self) -> None:
        """Makes the steps anew, of the model as it is now (what is frozen, which optimizer)."""

    def begin_to_train(self) -> None:
        """Starts from the weights as they are now, whoever has set them."""

    def bring_together(self) -> None:
        """Has everything that steps have changed be where the model's user looks for it."""

    def gathered(self, keep: bool, call: bool = False) -> contextlib.AbstractContextManager[None]:
        """Shows this thread whole what the replicas share out; all processes enter it together.

        Args:
            keep: whether this process is to be shown it; it takes part anyway.
            call: whether a user's call begins so, which the others may have left out.
        """

    def replica_states(self) -> list[dict[str, list[np.ndarray]]]:
        """What the replicas of this process have each for themselves, beside the model's weights.

        Returns:
            For each replica: "metrics", and perhaps more, to lists of arrays.
        """

    def set_replica_states(self, states: Sequence[Mapping[str, Sequence[np.ndarray]]]) -> None:
        """Goes on from what the replicas of another run have had.

        Args:
            states: of all its replicas, in their order; there may have been another number.
                "metrics" is empty where an epoch begins.

        Raises:
            CheckpointError: they are of another model.
        """

    def broadcast(self, variables: Sequence[keras.Variable]) -> None:
        """Gives every process the chief's values of these variables."""

    def prediction(self) -> Prediction:
        """Returns what predicts, with the weights as they are when it does."""


class FamilyKind(abc.ABC):
    """A family of strategies, as all of its models have it.

    Attributes:
        name: short, for messages, as "parameter_server".
        options: the fields of `TrainingOptions` that mean something to it.
        home: where the variables of its models belong, for messages.
    """

    name: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    home: ClassVar[str] = "on every replica"

    @abc.abstractmethod
    def has(self, strategy: tf.distribute.Strategy) -> bool:
        """Whether a strategy is of this family."""

    @abc.abstractmethod
    def make(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        options: TrainingOptions,
        prepared: Any,
    ) -> Family:
        """Returns what takes the steps of a model.

        Args:
            model: a built model; compiled, unless it is only to predict.
            strategy: in whose scope it was made.
            layout: the replicas, as this process sees them.
            options: of `plug`.
            prepared: what `prepare` has returned for the model.
        """

    def own_data(
        self,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        function: InputFunction,
        steps: int | None,
    ) -> Stream:
        """Returns the data that workers read for themselves.

        Args:
            strategy: of the model.
            layout: its replicas.
            function: from a `tf.distribute.InputContext` to a dataset.
            steps: of an epoch; None where the data end.
        """
        del strategy
        return PerWorkerData(layout, function, steps)

    def gpus(self, strategy: tf.distribute.Strategy, options: TrainingOptions) -> Sequence[str]:
        """Returns where steps find arrays that are put on the replicas' GPUs, by default nowhere.

        Args:
            strategy: of the model.
            options: of `plug`.
        """
        del strategy, options
        return ()

    def rows(self, layout: ReplicaLayout, options: TrainingOptions) -> ReplicaLayout:
        """Returns the replicas that share a batch's rows in training, by default all there are.

        Args:
            layout: the replicas there are.
            options: of `plug`.

        Raises:
            PlugError: it cannot be as the options say.
        """
        del options
        return layout

    def prepare(
        self, model: keras.Model, strategy: tf.distribute.Strategy, options: TrainingOptions
    ) -> Any:
        """Does to a model what must be done before it is built; returns what `make` wants of it."""
        del model, strategy, options

    def before_build(self, prepared: Any) -> None:
        """Does what must be done, before the optimizers of a model are built, each time anew.

        Args:
            prepared: what `prepare` has returned for the model.

        Raises:
            PlugError: an optimizer does not fit the options.
        """
        del prepared

    def check_callbacks(
        self, callbacks: Callbacks, strategy: tf.distribute.Strategy, options: TrainingOptions
    ) -> None:
        """Checks that what a `fit` was given as callbacks fits the options.

        Args:
            callbacks: as given.
            strategy: in whose scope the model was made.
            options: of `plug`.

        Raises:
            PlugError: something does not.
        """
        del callbacks, strategy, options

    def check(self, model: keras.Model, strategy: tf.distribute.Strategy) -> None:
        """Checks that what a model was compiled with fits the strategy.

        Raises:
            PlugError: something does not.
        """
        del model, strategy

    def is_at_home(self, strategy: tf.distribute.Strategy, variable: tf.Variable) -> bool:
        """Whether a variable is where a model's variables belong."""
        if strategy.num_replicas_in_sync == 1:
            return True
        return bool(strategy.extended.variable_created_in_scope(variable))

    def is_shared_out(self, layout: ReplicaLayout) -> bool:
        """Whether the rows of a batch go to several places: more than plain Keras would do."""
        del layout
        return True

    def predicts_as_keras(self, layout: ReplicaLayout) -> bool:
        """Whether plain Keras' own `predict` does all there is to do."""
        return not self.is_shared_out(layout)
