"""What is computed across the rows of a batch is told of, and nothing else is.

Of each program here two replicas are trained, and what tfdist warns of is looked at: an alarm at
every Dropout would be worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers, ops

import tfdist
from tests.training.comparing import mirrored
from tests.training.models import LABELS, TARGETS, TOKENS, X
from tests.training.test_own_sums import warnings

FIT: dict[str, Any] = {"batch_size": 16, "epochs": 1, "verbose": 0}


class Policy(keras.Model):
    """A step of policy gradients, whose advantages are normalized over the batch, as PPO's are."""

    gathers = False

    def __init__(self) -> None:
        super().__init__()
        self.logits = layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.logits(x)

    def train_step(self, data: Any) -> Any:
        x, (actions, returns) = data
        every = tfdist.gather_batch(returns) if self.gathers else returns
        advantages = (returns - tf.reduce_mean(every)) / (tf.math.reduce_std(every) + 1e-6)
        with tf.GradientTape() as tape:
            chosen = tf.gather(tf.nn.log_softmax(self(x)), actions, batch_dims=1)
            loss = -tf.reduce_mean(chosen * advantages)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


class GatheredPolicy(Policy):
    gathers = True


def weighted(y: Any, predicted: Any) -> Any:
    """Each row's error by its weight over the mean weight."""
    weights = 1.0 + ops.abs(y[:, 0])
    return ops.mean(ops.square(y - predicted), -1) * weights / ops.mean(weights)


def in_batch_negatives(y: Any, predicted: Any) -> Any:
    """Each row's own pair among all pairs of the batch."""
    scores = ops.matmul(y, ops.transpose(predicted))
    return keras.losses.sparse_categorical_crossentropy(
        ops.arange(ops.shape(y)[0]), scores, from_logits=True
    )


class Batched(layers.Layer):
    """Attention over the rows of a batch."""

    def call(self, x: Any) -> Any:
        return x + ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(x))), x)


class Scanned(layers.Layer):
    """A running sum over the steps of each row."""

    def call(self, x: Any) -> Any:
        steps = tf.transpose(ops.reshape(x, (-1, 4, 2)), [1, 0, 2])
        return tf.scan(tf.add, steps)[-1]


def compiled(*inner: Any, loss: Any = "mse", outputs: int = 2, shape: Any = (8,)) -> keras.Model:
    model = keras.Sequential([keras.Input(shape), *inner, layers.Dense(outputs)])
    model.compile("sgd", loss, metrics=["mae"])
    return model


def policy(kind: type[Policy]) -> keras.Model:
    model = kind()
    model.compile("sgd")
    return model


def on_rows(*inner: Any, loss: Any = "mse") -> Callable[[], None]:
    return lambda: fit(lambda: compiled(*(one() for one in inner), loss=loss), X, TARGETS)


def on_returns(kind: type[Policy]) -> Callable[[], None]:
    return lambda: fit(lambda: policy(kind), X, (LABELS, TARGETS[:, 0]))


def fit(make: Callable[[], keras.Model], x: Any, y: Any) -> None:
    with mirrored(2).scope():
        model = make()
    tfdist.plug(model).fit(x, y, **FIT)


def on_sentences() -> None:
    def make() -> keras.Model:
        inputs = keras.Input((TOKENS.shape[1],), dtype="int32")
        words = layers.Embedding(20, 6, mask_zero=True)(inputs)
        seen = layers.MultiHeadAttention(2, 4, dropout=0.2)(words, words)
        read = layers.Bidirectional(layers.LSTM(4, dropout=0.1, recurrent_dropout=0.1))(seen)
        model = keras.Model(inputs, layers.Dense(3, activation="softmax")(read))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    fit(make, TOKENS, LABELS)


def on_pictures() -> None:
    def make() -> keras.Model:
        inner = [
            layers.Reshape((2, 2, 2)),
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.Conv2D(4, 2, padding="same"),
            layers.BatchNormalization(),
            layers.SpatialDropout2D(0.2),
            layers.GroupNormalization(2),
            layers.GlobalAveragePooling2D(),
        ]
        return compiled(*inner)

    fit(make, X, TARGETS)


def on_ragged_rows() -> None:
    ragged = tf.RaggedTensor.from_row_lengths(range(528), range(1, 33))
    data = tf.data.Dataset.from_tensor_slices((ragged, LABELS[:32])).batch(8)

    class Sums(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, rows: Any) -> Any:
            return self.dense(tf.cast(tf.reduce_sum(rows, axis=1), tf.float32)[:, None] / 1000)

    with mirrored(2).scope():
        model = Sums()
        model.build((None, None))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tfdist.plug(model).fit(data, verbose=0)


class Positions(layers.Layer):
    """Adds to each row what is looked up for it, which is the same for all."""

    def build(self, shape: Any) -> None:
        self.table = layers.Embedding(8, 1)

    def call(self, x: Any) -> Any:
        places = ops.tile(ops.arange(8)[None], (ops.shape(x)[0], 1))
        return x + self.table(places)[:, :, 0]


def noisy() -> list[Callable[[], Any]]:
    return [
        lambda: layers.Dense(6, "relu", activity_regularizer="l2"),
        lambda: layers.Dropout(0.3),
        lambda: layers.GaussianNoise(0.1),
        lambda: layers.AlphaDropout(0.1),
        lambda: layers.GaussianDropout(0.1),
        lambda: layers.LayerNormalization(),
        lambda: layers.UnitNormalization(),
        lambda: layers.BatchNormalization(),
    ]


TOLD = {
    "normalized advantages": (
        on_returns(Policy),
        "the loss of a step",
        "advantages = (returns - tf.reduce_mean(every)) / ",
    ),
    "in-batch negatives": (
        on_rows(loss=in_batch_negatives),
        "a loss",
        "scores = ops.matmul(y, ops.transpose(predicted))",
    ),
    "attention over the rows": (on_rows(Batched), "a loss", "return x + ops.matmul("),
    "weights over their mean": (
        on_rows(loss=weighted),
        "a loss",
        "return ops.mean(ops.square(y - predicted), -1) * weights / ops.mean(weights)",
    ),
}
UNTOLD = {
    "normalized over what was gathered": on_returns(GatheredPolicy),
    "noise and norms": on_rows(*noisy()),
    "sentences": on_sentences,
    "pictures": on_pictures,
    "ragged rows": on_ragged_rows,
    "positions": on_rows(Positions),
    "a scan over time": on_rows(Scanned),
    "hinge": on_rows(loss="squared_hinge"),
    "Huber": on_rows(loss=keras.losses.Huber()),
    "cosine similarity": on_rows(loss="cosine_similarity"),
    "log-cosh": on_rows(loss="log_cosh"),
    "KL divergence": on_rows(loss="kl_divergence"),
}


@pytest.mark.parametrize(("program", "told", "line"), TOLD.values(), ids=TOLD)
def test_what_looks_across_the_rows_is_told(
    program: Callable[[], None], told: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = warnings(monkeypatch)
    program()
    assert len(said) == 1
    assert said[0].startswith(f"{told} is computed across the rows of a batch")
    (number,) = re.findall(r"\(test_row_alarms\.py, line (\d+): " + re.escape(line), said[0])
    assert line in Path(__file__).read_text().splitlines()[int(number) - 1]


@pytest.mark.parametrize("program", UNTOLD.values(), ids=UNTOLD)
def test_what_sees_each_row_by_itself_is_not(
    program: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = warnings(monkeypatch)
    program()
    assert [one for one in said if "BatchNormalization" not in one] == []
