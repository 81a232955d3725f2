"""Keras' own pieces that look across the rows of a batch: they see those of all replicas.

Dice and Tversky are quotients of sums over all rows, unless they are told to leave the rows apart;
Circle compares each row with all others; MixUp and CutMix mix a row with another one.
BatchNormalization is left as Keras has it.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdist.compat import keras_layers, patches
from tfdist.compat.patches import Patches
from tfdist.structures import Nest
from tfdist.training.replica.collectives import gather_batch, own_rows
from tfdist.training.replica.reductions import flow_of
from tfdist.training.replica.step import current

__all__ = ["PATCHES"]


def _call_loss(self: keras.losses.Loss, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    call = patches.original("call_loss")
    step = current()
    if step is None or step.postponed is not None:
        return call(self, y_true, y_pred)
    if isinstance(self, keras.losses.Dice | keras.losses.Tversky) and _is_along_rows(self.axis):
        return call(self, gather_batch(y_true), gather_batch(y_pred))
    if isinstance(self, keras.losses.Circle):
        found = own_rows(call(self, gather_batch(y_true), gather_batch(y_pred)))
        keras_layers.set_mask(found, found > 0)  # as Keras does
        return found
    found = call(self, y_true, y_pred)
    if self.fn in (keras.losses.hinge, keras.losses.squared_hinge):
        # They look at all labels, whether these are 0 and 1, which makes no difference to any: 1
        # stays 1, and what is -1 or 0 among them tells each replica that has it.
        seen = flow_of(step, tf.convert_to_tensor(y_pred))
        return step.in_rows(found) if seen.exact and seen.has_rows else found
    return found


def _is_along_rows(axis: int | tuple[int, ...] | None) -> bool:
    return axis is None or 0 in (axis if isinstance(axis, tuple | list) else (axis,))


def _call_image_layer(self: keras.layers.Layer, data: Nest, training: bool = True) -> Nest:
    call = patches.original("call_image_layer")
    mixes = isinstance(self, keras.layers.MixUp | keras.layers.CutMix)
    if current() is None or not (mixes and training):
        return call(self, data, training)
    return own_rows(call(self, gather_batch(data), training))


def _call_normalization(
    self: keras.layers.BatchNormalization,
    inputs: tf.Tensor,
    training: bool | None = None,
    mask: tf.Tensor | None = None,
) -> tf.Tensor:
    """BatchNormalization, whose rows are told of when a model is plugged in, not in each loss."""
    found = patches.original("call_normalization")(self, inputs, training, mask)
    step = current()
    return found if step is None else step.in_rows(found)


PATCHES = Patches(
    {
        "call_loss": _call_loss,
        "call_image_layer": _call_image_layer,
        "call_normalization": _call_normalization,
    }
)
