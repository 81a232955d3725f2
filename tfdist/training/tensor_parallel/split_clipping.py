"""`clipnorm` of optimizers whose weights are in parts: the norm is that of the whole gradient."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import keras
import tensorflow as tf

from tfdist.compat import keras_optimizers, keras_slots
from tfdist.structures import Gradient
from tfdist.training.tensor_parallel.split_weight import whole_of

__all__ = ["clip_by_whole_norms", "updating"]

_updated: ContextVar[Sequence[keras.Variable]] = ContextVar("updated", default=())


@contextlib.contextmanager
def updating(
    gradients: Sequence[Gradient | None], variables: Sequence[keras.Variable] | None
) -> Iterator[None]:
    """For an optimizer's `apply`: notes of which variables it clips gradients.

    Args:
        gradients: as given to it; it leaves out None.
        variables: as given to it; None for all that it was built for.
    """
    pairs = zip(gradients, variables or (), strict=False)
    token = _updated.set([v for g, v in pairs if g is not None])
    try:
        yield
    finally:
        _updated.reset(token)


def clip_by_whole_norms(base: keras.optimizers.Optimizer) -> None:
    """Has an optimizer with `clipnorm` clip the parts of a gradient by the norm of all of it."""
    if base.clipnorm:
        keras_slots.replace_method(base, "_clip_gradients", functools.partial(_clip, base))


def _clip(base: keras.optimizers.Optimizer, gradients: Sequence[Gradient]) -> list[Gradient]:
    variables = _updated.get() or keras_optimizers.trained_by(base)
    keys = [id(whole_of(v) or v) for v in variables]
    squares: dict[int, list[tf.Tensor]] = {}
    for key, gradient in zip(keys, gradients, strict=True):
        dense = tf.convert_to_tensor(gradient)
        squares.setdefault(key, []).append(tf.reduce_sum(tf.square(dense)))
    norms = {key: tf.sqrt(tf.add_n(found)) for key, found in squares.items()}
    return [_clipped(g, norms[key], base.clipnorm) for g, key in zip(gradients, keys, strict=True)]


def _clipped(gradient: Gradient, norm: tf.Tensor, limit: float) -> Gradient:
    if isinstance(gradient, tf.IndexedSlices):
        values = _clipped(gradient.values, norm, limit)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient * tf.cast(limit, gradient.dtype) / tf.cast(tf.maximum(norm, limit), norm.dtype)
