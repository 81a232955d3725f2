"""What the epoch loop asks of a family of strategies: how steps run, how metrics come back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.data.stream import Step, Stream
from tfdist.training.loop.chunking import ChunkLength
from tfdist.training.peers.drift import DriftCheck

__all__ = ["Chunk", "Family"]

Chunk: TypeAlias = Callable[[], tuple[int, dict[str, Any]]]
"""Runs some steps; returns how many, and the logs of the epoch so far."""


class Family(Protocol):
    """Takes the steps of one plugged model.

    Attributes:
        model: a built and compiled model.
        strategy: in whose scope it was made.
        layout: the replicas, as this process sees them.
        drift: compares the processes' models.
        chunk_seconds: what the steps between two looks should take.
    """

    model: keras.Model
    strategy: tf.distribute.Strategy
    layout: ReplicaLayout
    drift: DriftCheck
    chunk_seconds: float

    def working(self) -> contextlib.AbstractContextManager[None]:
        """For all that traces and runs steps: may explain their errors."""

    def chunks(
        self, mode: str, data: Stream, chunk_length: ChunkLength
    ) -> Generator[Chunk, None, None]:
        """Yields, until an epoch's data end, what runs the next steps.

        Args:
            mode: "train" or "test".
            data: the epoch has begun.
            chunk_length: how many steps between two looks.
        """

    def on_batch(self, mode: str, step: Step) -> dict[str, Any]:
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

    def broadcast(self, variables: Sequence[keras.Variable]) -> None:
        """Gives every process the chief's values of these variables."""
