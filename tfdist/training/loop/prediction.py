"""What `predict` asks of a family: the outputs of some batches at a time, in any order."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeAlias

import numpy as np
import tensorflow as tf

from tfdist.errors import DataError
from tfdist.structures import Leaf, Nest
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.data.stream import Step
from tfdist.training.loop.chunking import ChunkLength

__all__ = ["Outputs", "Prediction", "dense_rows"]

Outputs: TypeAlias = Callable[[], tuple[Any, int, Any]]
"""Returns the place of some outputs in the data's order, how many steps end with them, and them."""


class Prediction(Protocol):
    """Predicts with one plugged model, as its family does."""

    def chunks(
        self, data: GlobalBatches, chunk_length: ChunkLength
    ) -> Generator[Outputs, None, None]:
        """Yields, until the data end or `model.stop_predicting` is set, what brings more outputs.

        Args:
            data: the pass over them has begun.
            chunk_length: how many steps between two looks.
        """

    def batch(self, step: Step) -> Nest:
        """Returns the outputs for one global batch, as arrays."""


def dense_rows(output: Leaf) -> np.ndarray:
    """Returns a model's output as an array whose first dimension is the batch.

    Raises:
        DataError: it is sparse, ragged or a scalar, so that outputs cannot be put in order.
    """
    if isinstance(output, tf.RaggedTensor | tf.SparseTensor):
        raise DataError(
            f"predict over several replicas or machines returns dense outputs, but the model "
            f"returns a {type(output).__name__}: end the model with a layer that makes it dense "
            "(to_tensor), or predict in one process"
        )
    if output.shape.rank == 0:
        raise DataError(
            "predict_step returned a scalar, but every output needs the batch as its first "
            "dimension, so that the replicas' outputs can be put in order"
        )
    return np.asarray(output)
