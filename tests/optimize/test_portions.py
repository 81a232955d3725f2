"""Portions that are read by their numbers: the bits of arrays', empty ones, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.optimize.programs import SETTINGS, X, Y, classifier, files_of_rows, reads
from tfdist.errors import DataError, PlugError
from tfdist.optimize import LBFGS, Portions

_SETTINGS: dict[str, Any] = {"max_iterations": 5, "verbose": 0}


def test_files_give_the_bits_of_arrays(tmp_path: Path) -> None:
    paths = files_of_rows(tmp_path)
    model, other = classifier(), classifier()
    LBFGS().minimize(model, X, Y, **{**SETTINGS, **_SETTINGS})
    LBFGS().minimize(other, Portions(reads(paths), len(paths)), **_SETTINGS)
    for left, right in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def _regression() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((64,)), layers.Dense(1)])
    model.compile(optimizer=None, loss="mse")
    return model


def test_portions_may_have_no_rows_or_one_and_weights() -> None:
    """As a filter leaves them."""
    ends = np.array([0, 0, 1, 1, 40, 100, 100])
    weights = np.linspace(0.5, 2.0, 100).astype("float32")
    targets = Y[:100, None].astype("float32")

    def read(number: Any) -> Any:
        low, high = tf.gather(ends, number), tf.gather(ends, number + 1)
        return [tf.constant(one)[low:high] for one in (X[:100], targets, weights)]

    model, other = _regression(), _regression()
    found = LBFGS().minimize(model, X[:100], targets, sample_weight=weights, **_SETTINGS)
    same = LBFGS().minimize(other, Portions(read, len(ends) - 1), **_SETTINGS)
    assert same.loss == pytest.approx(found.loss, rel=1e-4)
    with pytest.raises(DataError, match="no rows"):
        LBFGS().minimize(_regression(), Portions(read, 1), **_SETTINGS)


def test_a_dict_and_ragged_rows_are_read() -> None:
    rows = tf.ragged.constant([[1, 2], [3], [4, 5, 6], [7]] * 10)

    def read(number: Any) -> Any:
        part = rows[4 * number : 4 * number + 4]
        sums = tf.cast(tf.reduce_sum(part, 1, keepdims=True), tf.float32)
        return {"ids": part.to_tensor(shape=[None, 3])}, sums

    def model() -> keras.Model:
        keras.utils.set_random_seed(1)
        ids = keras.Input((3,), dtype="int32", name="ids")
        made = keras.Model(
            {"ids": ids}, layers.Dense(1)(layers.Flatten()(layers.Embedding(9, 2)(ids)))
        )
        made.compile(optimizer=None, loss="mse")
        return made

    found = LBFGS().minimize(model(), Portions(read, 10), **_SETTINGS)
    same = LBFGS().minimize(
        model(),
        tf.data.Dataset.range(10).map(read),
        **_SETTINGS,
    )
    assert found.loss == same.loss


def _summing() -> keras.Model:
    model = _regression()
    model.compile(optimizer=None, loss=lambda y, p: tf.reduce_sum((y - p) ** 2))
    return model


@pytest.mark.parametrize("rows", [1, 20])
def test_a_sum_is_no_mean(rows: int) -> None:
    def read(number: Any) -> Any:
        begin = rows * number
        return tf.constant(X)[begin : begin + rows], tf.constant(Y[:, None])[begin : begin + rows]

    with pytest.raises(PlugError, match="no mean over rows"):
        LBFGS().minimize(_summing(), Portions(read, 4), **_SETTINGS)


def _python(number: Any) -> Any:
    row = tf.ensure_shape(tf.numpy_function(lambda n: X[n : n + 2], [number], tf.float32), [2, 64])
    return row, row[:, :1]


def _python_of_any_shape(number: Any) -> Any:
    return tf.py_function(lambda n: X[int(n) : int(n) + 2], [number], tf.float32)


_calls: list[Any] = []


def _changes(number: Any) -> Any:
    if not _calls:
        _calls.append(tf.Variable(1.0))
    return X[:2] * _calls[0].assign_add(1.0), tf.zeros([2, 1])


def _draws(number: Any) -> Any:
    del number
    return tf.random.normal([2, 64]), tf.zeros([2, 1])


def _other_rows(number: Any) -> Any:
    return tf.constant(X)[: number + 4], tf.zeros([1, 1])


def _no_rows(number: Any) -> Any:
    return tf.constant(X)[number], tf.cast(number, tf.float32)


@pytest.mark.parametrize(
    ("read", "error", "told"),
    [
        (_python, DataError, "runs Python code"),
        (_python_of_any_shape, DataError, "runs Python code"),
        (_changes, DataError, "changes a variable"),
        (_draws, PlugError, "draws random numbers"),
        (_other_rows, tf.errors.InvalidArgumentError, "other numbers of rows"),
        (_no_rows, DataError, r"shapes .*64.*first axis"),
    ],
)
def test_what_cannot_be_read_again_is_refused(read: Any, error: Any, told: str) -> None:
    with pytest.raises(error, match=told):
        LBFGS().minimize(_regression(), Portions(read, 3), **_SETTINGS)


def test_rows_that_are_others_each_time_are_told(tmp_path: Path) -> None:
    paths = files_of_rows(tmp_path)
    swaps = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: Path(paths[3]).write_bytes(Path(paths[4]).read_bytes())
    )
    with pytest.raises(DataError, match="let read return the same rows"):
        LBFGS().minimize(
            classifier(), Portions(reads(paths), len(paths)), callbacks=[swaps], **_SETTINGS
        )


def test_arguments_that_portions_have_no_use_for_are_refused() -> None:
    portions = Portions(lambda number: (tf.constant(X)[number : number + 1], 0), 3)
    others: dict[str, Any] = {"y": Y, "batch_size": 3, "class_weight": {0: 1.0}}
    for name, value in others.items():
        with pytest.raises(DataError, match=f"and {name} beside"):
            LBFGS().minimize(_regression(), portions, **{name: value, **_SETTINGS})
    for wrong in ((None, 3), (_draws, 0), (_draws, True), (_draws, 2.0)):
        with pytest.raises(DataError):
            Portions(*wrong)
    with pytest.raises(DataError, match=r"give tfdist\.optimize\.Portions"):
        LBFGS().minimize(_regression(), _draws, **_SETTINGS)
