"""The sharded embeddings of one plugged model, as parameter-server training sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfdist.structures import Gradient
from tfdist.training.embeddings.sharded_embedding import (
    ShardedEmbedding,
    shard_embeddings,
    sharded_embeddings,
)
from tfdist.training.embeddings.sparse_updates import SparseUpdates
from tfdist.training.plug_options import TrainingOptions

__all__ = ["EmbeddingTables"]


class EmbeddingTables:
    """Which variables are shards of tables, and how they are updated.

    Args:
        model: a model that may hold sharded embeddings.
        exact: has Keras' own code update every row at every step.
    """

    def __init__(self, model: keras.Model, exact: bool = False) -> None:
        self._model = model
        self._exact = exact
        self._updates: SparseUpdates | None = None

    @classmethod
    def of(cls, model: keras.Model, servers: int, options: TrainingOptions) -> EmbeddingTables:
        """Shards the large embeddings of a model, in place.

        Args:
            model: a model whose optimizer is not built.
            servers: how many parameter servers there are.
            options: which tables are large, and into how many shards they go.

        Raises:
            PlugError: a large table cannot be sharded as it is.
        """
        if options.shard_embeddings_from is not None:
            shard_embeddings(
                model, servers, options.shard_embeddings_from, shards=options.embedding_shards
            )
        return cls(model, options.exact_embeddings)

    @property
    def layers(self) -> list[ShardedEmbedding]:
        """The sharded layers."""
        return sharded_embeddings(self._model)

    @property
    def variables(self) -> list[keras.Variable]:
        """The shards of all tables, once the model is built."""
        return [shard for layer in self.layers for shard in layer.table.shards]

    def prepare(self) -> None:
        """Gets ready for the optimizer that the model has now, which is built.

        Raises:
            PlugError: the optimizer, or an option of it, does not work with sharded tables.
        """
        self._updates = None
        if self.layers and self._model.optimizer is not None:
            for layer in self.layers:
                layer.keep_lookups_apart(self._exact)
            self._updates = SparseUpdates(self._model.optimizer, self.layers, self._exact)
            self._updates.check()
            self._updates.keep_files_plain()

    def clip(self, gradients: Sequence[Gradient], variables: Sequence[keras.Variable]) -> list[Any]:
        """Clips gradients as the optimizer asks, those of tables without making them dense."""
        if self._updates is None:
            return list(gradients)
        return list(self._updates.clip(list(gradients), list(variables)))

    def ready(self, pairs: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Gets gradients ready for `update`, before they are sent to where the shards are.

        Args:
            pairs: gradients (`tf.IndexedSlices`), clipped if need be, and their shards.
        """
        return self._updates.ready(pairs) if self._updates is not None else []

    def update(
        self, optimizer: keras.optimizers.Optimizer, pairs: Sequence[tuple[Any, Any]], rate: Any
    ) -> None:
        """Applies gradients to the rows that they touch, or to all, where these are.

        Args:
            optimizer: the model's.
            pairs: what `ready` has returned, where the shards are.
            rate: the learning rate.
        """
        assert self._updates is not None
        self._updates.apply(pairs, rate, optimizer.iterations)
