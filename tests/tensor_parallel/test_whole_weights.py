"""A weight in parts is used as the whole one that plain Keras has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfdist
from tests.tensor_parallel.test_equals_one_device import strategy

X = np.random.default_rng(0).normal(size=(32, 12)).astype("float32")


def made() -> keras.Model:
    keras.utils.set_random_seed(1)
    inner = keras.Sequential([keras.Input((12,)), layers.Dense(9, "relu"), layers.Dense(5)])
    model = keras.Sequential([keras.Input((12,)), inner, layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


@pytest.fixture(scope="module")
def pair() -> tuple[keras.Model, keras.Model]:
    """A model in parts, and the plain one, both trained."""
    plain = made()
    with strategy({".*kernel": (None, "model")}).scope():
        parts = made()
    tfdist.plug(parts)
    for model in (plain, parts):
        model.fit(X, X[:, :2], batch_size=16, shuffle=False, verbose=0)
    return parts, plain


def _kernels(pair: tuple[keras.Model, keras.Model]) -> tuple[Any, Any]:
    parts, plain = (model.layers[0].layers[0].kernel for model in pair)
    assert len(parts.shards) == 2
    return parts, plain


@pytest.mark.parametrize(
    "use",
    [
        lambda k: k * 2,
        lambda k: 2 * k,
        lambda k: k + 1.0,
        lambda k: 1.0 - k,
        lambda k: k**2,
        lambda k: 1.0 / (k + 10.0),
        lambda k: -k,
        lambda k: abs(k),
        lambda k: k[3],
        lambda k: k[:, 4:7],
        lambda k: X @ k,
        lambda k: k @ np.ones((9, 2), "float32"),
        lambda k: tf.cast(k > 0.1, tf.float32),
        lambda k: k.value * k.ndim,
        lambda k: keras.ops.sum(k * k),
        lambda k: np.asarray(k) * np.float32(2),
        tf.norm,
    ],
)
def test_it_computes_as_the_whole_one(
    use: Callable[[Any], Any], pair: tuple[keras.Model, keras.Model]
) -> None:
    parts, plain = _kernels(pair)
    np.testing.assert_allclose(use(parts), use(plain), rtol=2e-5, atol=1e-6)


def test_it_is_assigned_as_the_whole_one(pair: tuple[keras.Model, keras.Model]) -> None:
    for kernel in _kernels(pair):
        kernel.assign(kernel * 0.5)
        kernel.assign_add(kernel)
        kernel.assign_sub(np.full(kernel.shape, 0.25, "float32"))
    parts, plain = _kernels(pair)
    np.testing.assert_allclose(parts.numpy(), plain.numpy(), rtol=2e-5, atol=1e-6)


def test_lists_of_weights_are_those_of_plain_models(pair: tuple[keras.Model, keras.Model]) -> None:
    """Also of the model in it; as a target network of Q-learning is set."""
    parts, plain = pair
    for own, other in ((parts, plain), (parts.layers[0], plain.layers[0])):
        for left, right in zip(own.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(left, right, rtol=2e-5, atol=1e-6)
    target = keras.models.clone_model(parts)
    target.set_weights(parts.get_weights())
    np.testing.assert_allclose(target(X), parts.predict(X, verbose=0), rtol=1e-4, atol=1e-5)
    parts.set_weights([2 * weight for weight in parts.get_weights()])
    np.testing.assert_allclose(2 * target.get_weights()[0], parts.get_weights()[0])
    with pytest.raises(ValueError, match="length 1, but the layer was expecting 6 weights"):
        parts.set_weights(parts.get_weights()[:1])
