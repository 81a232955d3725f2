"""Keras' multi-head attention, between its projections."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

__all__ = ["OwnAttention", "projections"]


class OwnAttention(keras.layers.MultiHeadAttention):
    """Attention that `attend` computes, of what has been projected."""

    def _compute_attention(
        self,
        query: tf.Tensor,
        key: tf.Tensor,
        value: tf.Tensor,
        attention_mask: tf.Tensor | None = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        **options: Any,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        options["return_attention_scores"] = return_attention_scores
        return self.attend(query, key, value, attention_mask, training, **options)

    def attend(self, *projected: Any, **options: Any) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Computes attention; by default `plain`, which takes and returns the same."""
        return self.plain(*projected, **options)

    def plain(
        self,
        query: tf.Tensor,
        key: tf.Tensor,
        value: tf.Tensor,
        mask: tf.Tensor | None,
        training: bool | None,
        **options: Any,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Computes attention as Keras does, of all heads or some.

        Args:
            query: projected, of shape `(B, T, N, H)`.
            key: projected, of shape `(B, S, N, H)`.
            value: likewise.
            mask: which positions may be looked at, or None.
            training: as Keras' layers take it.
            **options: what else Keras' version tells of a call.

        Returns:
            What the heads give, and the scores where they are asked for.
        """
        found = super()._compute_attention(query, key, value, mask, training, **options)
        return found[0], found[1]


def projections(
    layer: keras.layers.MultiHeadAttention,
) -> tuple[list[keras.layers.EinsumDense], keras.layers.EinsumDense]:
    """Returns what projects queries, keys and values (and gates), and what projects the heads."""
    into = [layer._query_dense, layer._key_dense, layer._value_dense]
    gates = [one for one in layer._layers if one.name == "gate"]
    return [*into, *gates], layer._output_dense
