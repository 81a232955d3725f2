"""A loss that is no mean over rows is refused, wherever the sum is; means and weights are not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.training.devices import cut_the_cpu
from tfdist.errors import PlugError
from tfdist.optimize import LBFGS
from tfdist.optimize.row_mean import check_is_mean, halves, whole

cut_the_cpu()  # as the tests of `training` do, which may share this process
RNG = np.random.default_rng(0)
X = RNG.normal(size=(97, 4)).astype("float32")
Y = (X @ RNG.normal(size=(4, 1)) + 0.3 * RNG.normal(size=(97, 1))).astype("float32")


class AddsSquares(layers.Layer):
    """Adds a loss of what passes through it."""

    def __init__(self, reduce: Any) -> None:
        super().__init__()
        self.reduce = reduce

    def call(self, x: Any) -> Any:
        self.add_loss(0.01 * self.reduce(keras.ops.square(x)))
        return x


class OwnLoss(keras.Sequential):
    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        del x, sample_weight, training
        return tf.reduce_sum(tf.square(y - y_pred)) + tf.add_n(self.losses)


def with_loss(loss: Any = "mse", *last: Any, kind: Any = keras.Sequential) -> keras.Model:
    keras.utils.set_random_seed(2)
    penalty = keras.regularizers.L2(0.1)
    model = kind([keras.Input((4,)), layers.Dense(1, kernel_regularizer=penalty), *last])
    model.compile(optimizer=None, loss=loss)
    return model


def _zero_at_first() -> keras.Model:
    model = with_loss("mse", AddsSquares(keras.ops.sum))
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    return model


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: with_loss(kind=OwnLoss), 97),
        (lambda: with_loss(kind=OwnLoss), 1),
        (lambda: with_loss("mse", AddsSquares(keras.ops.sum)), 32),
        (lambda: with_loss(lambda y, found: tf.reduce_sum(tf.square(y - found))), 32),
        (lambda: with_loss(lambda y, found: tf.norm(y - found)), 40),
        (_zero_at_first, 32),
    ],
    ids=["compute_loss", "one_row", "add_loss", "function", "norm", "zero_at_first"],
)
def test_a_loss_that_is_no_mean_over_rows_is_refused(make: Any, size: int) -> None:
    with pytest.raises(PlugError, match=r"the loss is no mean over rows: it is .* its two halves"):
        LBFGS().minimize(make(), X, Y, batch_size=size, max_iterations=3, verbose=0)


def test_means_and_weights_of_rows_are_taken_in_portions_of_any_size() -> None:
    weights = RNG.uniform(0.0, 5.0, 97).astype("float32")
    for size in (97, 8, 1):
        model = with_loss("mse", AddsSquares(keras.ops.mean))
        found = LBFGS().minimize(
            model, X, Y, sample_weight=weights, batch_size=size, max_iterations=0, verbose=0
        )
        whole = model.compute_loss(X, Y, model(X), tf.constant(weights))
        assert found.loss == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.parametrize("rows", [1, 5])
def test_halves_are_of_tensors_of_each_kind(rows: int) -> None:
    dense = tf.reshape(tf.range(2 * rows), [rows, 2])
    batch: Any = {
        "dense": dense,
        "ragged": tf.RaggedTensor.from_tensor(dense),
        "sparse": tf.sparse.from_dense(dense),
        "absent": None,
    }
    pieces: Any = (whole(batch), *halves(batch))
    here, half = (2 * dense.numpy().tolist(), 1) if rows == 1 else (dense.numpy().tolist(), 2)
    for piece, wanted in zip(pieces, (here, here[:half], here[half:]), strict=True):
        assert piece["dense"].numpy().tolist() == wanted
        assert piece["ragged"].to_list() == wanted
        assert tf.sparse.to_dense(piece["sparse"]).numpy().tolist() == wanted
        assert piece["absent"] is None


def test_a_loss_that_is_not_finite_is_no_matter_of_means() -> None:
    check_is_mean([np.nan, 4.0], [[1.0, 2.0], [1.0, 2.0]])
    check_is_mean([np.inf, 4.0], [[np.inf, 2.0], [1.0, 2.0]])
    check_is_mean([0.0, 4.0], [[0.0, 2.0], [0.0, 2.0]])
    with pytest.raises(PlugError, match=r"is 1 for 4 rows, and 0\.5 as the mean"):
        check_is_mean([4.0, 4.0], [[1.0, 2.0], [1.0, 2.0]])
