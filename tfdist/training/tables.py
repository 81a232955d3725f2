"""The sharded embeddings of one plugged model, as parameter-server training sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.training.options import TrainingOptions

__all__ = ["Tables"]


class Tables:
    """Which variables are shards of tables, and how they are updated.

    Args:
        variables: the shards.
    """

    def __init__(self, variables: Sequence[keras.Variable] = ()) -> None:
        self.variables = list(variables)

    @classmethod
    def of(
        cls, model: keras.Model, strategy: tf.distribute.Strategy, options: TrainingOptions
    ) -> Tables:
        """Shards the large embeddings of a model, in place."""
        del model, strategy, options
        return cls()

    def update(self, optimizer: Any, pairs: Sequence[tuple[Any, Any]], rate: Any) -> None:
        """Applies gradients to the rows that they touch, where these are."""
        raise NotImplementedError
