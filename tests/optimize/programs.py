"""Models and data of the jobs that minimize, and of the process that they are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits

SETTINGS: dict[str, Any] = {"batch_size": 50, "max_iterations": 14, "verbose": 0}
_DIGITS = load_digits()
X = (_DIGITS.data[:1000] / 16.0).astype("float32")
Y = _DIGITS.target[:1000].astype("int32")


def classifier(*between: Any) -> keras.Model:
    """A network for the digits."""
    keras.utils.set_random_seed(1)
    hidden = layers.Dense(24, activation="tanh", kernel_regularizer=keras.regularizers.L2(1e-4))
    model = keras.Sequential([keras.Input((64,)), hidden, *between, layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=None, loss=loss)
    return model


def recommender() -> keras.Model:
    """A network with a table that parameter servers share."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((3,), dtype="int32"), layers.Embedding(200, 4), layers.Flatten()]
    )
    model.add(layers.Dense(1))
    model.compile(optimizer=None, loss="mse")
    return model


def recommender_data() -> tuple[np.ndarray, np.ndarray]:
    """Three ids, and a number that depends on them."""
    rng = np.random.default_rng(4)
    ids = rng.integers(0, 200, (600, 3)).astype("int32")
    return ids, np.cos(ids / 20.0).sum(1, keepdims=True).astype("float32")


def files_of_rows(folder: Path) -> list[str]:
    """The digits as files of as many rows as a portion of `SETTINGS` has."""
    folder.mkdir(exist_ok=True)
    paths = []
    size = SETTINGS["batch_size"]
    for begin in range(0, len(X), size):
        path = folder / f"{begin:04}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as file:
            for row, digit in zip(X[begin : begin + size], Y[begin : begin + size], strict=True):
                file.write(row.tobytes() + digit.tobytes())
        paths.append(str(path))
    return paths


def reads(paths: list[str]) -> Any:
    """A function that reads the rows of one of such files."""

    def parse(record: Any) -> Any:
        numbers = tf.io.decode_raw(record, tf.float32)
        digit = tf.bitcast(numbers[64], tf.int32)
        return tf.ensure_shape(numbers[:64], [64]), digit

    def read(number: Any) -> Any:
        file = tf.data.TFRecordDataset(tf.gather(tf.constant(paths), number))
        return file.map(parse).batch(10**6).get_single_element()

    return read
