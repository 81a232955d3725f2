"""Embedding with its table in parts: by rows, or by columns."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfdist.compat import keras_layers
from tfdist.training.tensor_parallel.device_parts import Parts, computed_on, joined, on_its_device
from tfdist.training.tensor_parallel.plain_weights import PlainWeights
from tfdist.training.tensor_parallel.split_weight import SplitWeight, bounds

__all__ = ["SplitEmbedding"]


class SplitEmbedding(PlainWeights, keras.layers.Embedding):
    """`keras.layers.Embedding`, its table in parts on several devices."""

    def call(self, inputs: Any) -> Any:
        """Looks ids up where their rows are, or each part of their rows where that is.

        Returns:
            As the layer does, in its compute dtype.

        Raises:
            tf.errors.InvalidArgumentError: (when it runs, on a CPU) an id is out of range.
        """
        table = keras_layers.embeddings_of(self)
        plain = not isinstance(table, SplitWeight) or not isinstance(inputs, tf.Tensor)
        if plain or self.lora_enabled or self.quantization_mode is not None:
            return super().call(inputs)
        ids = inputs if inputs.dtype in (tf.int32, tf.int64) else tf.cast(inputs, tf.int32)
        rows = table.shape[0]
        ranges = bounds(rows, len(table.shards))
        values = []
        for number, shard in enumerate(table.shards):
            part, device = on_its_device(shard)
            first, stop = ranges[number] if table.axis == 0 else (0, rows)

            def look_up(
                wanted: tf.Tensor, own: tf.Tensor, first: int = first, stop: int = stop
            ) -> tf.Tensor:
                wanted = tf.where(wanted < 0, wanted + rows, wanted)
                place = wanted - first
                is_here = (wanted >= first) & (wanted < stop)
                if stop == rows:  # the last part answers, as a whole table would, for wrong ids
                    is_here |= (wanted < 0) | (wanted >= rows)
                found = tf.gather(own, tf.where(is_here, place, 0))
                is_here = tf.expand_dims(is_here, -1)
                # A product: gradients of rows that are elsewhere are zeros.
                found = found * tf.cast(is_here, found.dtype) if table.axis == 0 else found
                return tf.cast(found, self.compute_dtype)

            values.append(computed_on(device, look_up, [ids, part]))
        if table.axis == 0:
            return tf.add_n(values)
        return joined(Parts(-1, tuple(values)))
