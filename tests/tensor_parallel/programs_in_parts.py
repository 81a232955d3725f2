"""Programs whose weights are cut by name: see `LAYOUT` of the tests and of the job."""

from __future__ import annotations

import keras
from keras import layers, optimizers

__all__ = ["sentences"]


def sentences() -> keras.Model:
    """A transformer's block, with masks, for `TOKENS`."""
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True, name="by_rows")(inputs)
    x = layers.Add()([x, layers.Embedding(20, 8, name="by_columns")(inputs)])
    attention = layers.MultiHeadAttention(4, 3, name="attention")
    x = layers.Add()([x, attention(x, x, use_causal_mask=True)])
    x = layers.LayerNormalization()(x)
    up = layers.Dense(12, activation="gelu", name="column_up")(x)
    x = layers.Add()([x, layers.Dense(8, name="row_down")(up)])
    x = layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="e", name="ends")(x)
    x = layers.GlobalAveragePooling1D()(layers.Reshape((6, 6))(x))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model
