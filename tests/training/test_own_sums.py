"""Losses that a `train_step` of one's own puts together of sums, and gradients of each row."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import tensorflow as tf

import tfdist
from tests.training.comparing import mirrored, same
from tests.training.models import TARGETS, X
from tests.training.test_own_steps import FIT, Base, trained
from tfdist import log


class HalfOfTwoSums(Base):
    def loss_of(self, x: Any, y: Any) -> Any:
        found = self(x)
        return 0.05 * (tf.reduce_sum(tf.square(y - found)) + tf.reduce_sum(tf.abs(found)))

    def train_step(self, data: Any) -> Any:
        loss, gradients = self.gradients_of(*data)
        self.apply(gradients)
        return {"loss": loss, **self.more(data[0])}

    def more(self, x: Any) -> dict[str, Any]:
        return {}


class LogsTheRows(HalfOfTwoSums):
    def more(self, x: Any) -> dict[str, Any]:
        return {"rows": tf.shape(x)[0], "entries": tf.size(x)}


class ScalesByWhatItLearns(HalfOfTwoSums):
    """A sum and a regularizer, times a number that is trained: both have a gradient."""

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.log_scale = self.add_weight(name="log_scale", initializer="zeros")

    def loss_of(self, x: Any, y: Any) -> Any:
        penalty = tf.add_n([tf.nn.l2_loss(v.value) for v in self.hidden.trainable_variables])
        squares = tf.reduce_sum(tf.square(y - self(x)))
        return 0.05 * tf.exp(self.log_scale.value) * (squares + penalty) - 0.1 * self.log_scale


class DividesByWhatItLearns(ScalesByWhatItLearns):
    def loss_of(self, x: Any, y: Any) -> Any:
        penalty = tf.nn.l2_loss(self.hidden.kernel.value)
        squares = tf.reduce_sum(tf.square(y - self(x)))
        return (0.05 * squares + penalty) / tf.exp(self.log_scale.value) + self.log_scale


class AnnealsByAVariable(HalfOfTwoSums):
    """`beta` is a variable that Keras does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = tf.Variable(0.01, trainable=False)

    def loss_of(self, x: Any, y: Any) -> Any:
        found = self(x)
        squares = tf.reduce_sum(tf.square(y - found))
        return 0.01 * squares + self.beta * tf.reduce_sum(tf.abs(found))


class ChoosesASum(HalfOfTwoSums):
    def loss_of(self, x: Any, y: Any) -> Any:
        error = y - self(x)
        return 0.05 * tf.cond(
            self.optimizer.iterations.value > 0,
            lambda: tf.nn.l2_loss(error),
            lambda: tf.einsum("bi,bi->", error, error),
        )


class ByHandWithDecay(Base):
    """Gradients that no tape has made: a sum over rows, and what decays."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        hidden = self.hidden(x)
        errors = self.out(hidden) - y
        self.optimizer.apply(
            [
                0.01 * tf.matmul(hidden, errors, transpose_a=True) + 0.1 * self.out.kernel.value,
                0.01 * tf.reduce_sum(errors, 0) - 0.1 * tf.reduce_mean(errors, 0),
            ],
            [self.out.kernel, self.out.bias],
        )
        return {"loss": tf.reduce_mean(tf.square(errors))}


class AfterARecurrence(HalfOfTwoSums):
    """A sum over the steps of a recurrent layer, as many as a replica has rows."""

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.recurrent = keras.layers.LSTM(3, return_sequences=True)
        self.recurrent.build((None, 8, 1))

    def loss_of(self, x: Any, y: Any) -> Any:
        steps = self.recurrent(x[:, :, None])
        own = tf.reduce_mean(tf.reduce_sum(tf.square(steps), [1, 2]))
        return super().loss_of(x, y) + own + 0.1 * tf.reduce_sum(steps)


class ClipsEachRow(Base):
    """Differentially private: each row's gradient is clipped by itself."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            losses = tf.reduce_mean(tf.square(y - self(x)), -1)
        each = tape.jacobian(losses, self.trainable_variables)
        self.apply([self.of_all(tf.clip_by_value(one, -0.05, 0.05)) for one in each])
        return {"loss": tf.reduce_mean(losses)}

    def of_all(self, rows: Any) -> Any:
        return tf.reduce_mean(rows, 0)


class SumsEachRow(ClipsEachRow):
    def of_all(self, rows: Any) -> Any:
        return tf.reduce_sum(rows, 0) / 32.0


class MapsEachRow(ClipsEachRow):
    def train_step(self, data: Any) -> Any:
        def one(row: Any) -> Any:
            x, y = row
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(y[None] - self(x[None])))
            return [tf.clip_by_norm(g, 0.1) for g in tape.gradient(loss, self.trainable_variables)]

        each = tf.vectorized_map(one, data)
        self.apply([self.of_all(rows) for rows in each])
        return {"loss": tf.reduce_mean(tf.square(data[1] - self(data[0])))}


KINDS = [
    *(HalfOfTwoSums, ScalesByWhatItLearns, DividesByWhatItLearns, AnnealsByAVariable),
    *(
        AfterARecurrence,
        ByHandWithDecay,
        ChoosesASum,
        LogsTheRows,
        ClipsEachRow,
        SumsEachRow,
        MapsEachRow,
    ),
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_own_sum_is_one_machines(kind: type[Base]) -> None:
    same(*trained(kind))


@pytest.mark.parametrize("kind", KINDS[:6])
def test_an_own_sum_over_rows_that_the_graph_knows(kind: type[Base]) -> None:
    data = tf.data.Dataset.from_tensor_slices((X, TARGETS)).batch(24, drop_remainder=True)
    make, _ = trained(kind)
    same(make, lambda model: model.fit(data, epochs=2, verbose=0).history, miscounted=False)


class Loops(Base):
    @tf.function
    def several(self, x: Any, y: Any) -> Any:
        loss = tf.constant(0.0)
        for _ in tf.range(2):
            loss, gradients = self.gradients_of(x, y)
            self.apply(gradients)
        return loss

    def train_step(self, data: Any) -> Any:
        return {"loss": self.several(*data)}


class Accumulates(Loops):
    @tf.function
    def several(self, x: Any, y: Any) -> Any:
        sums = [tf.zeros_like(v.value) for v in self.trainable_variables]
        for _ in tf.range(2):
            sums = [a + g / 2 for a, g in zip(sums, self.gradients_of(x, y)[1], strict=True)]
        self.apply(self.changed(sums))
        return self.loss_of(x, y)

    def changed(self, gradients: Any) -> Any:
        return gradients


class AccumulatesAndClips(Accumulates):
    def changed(self, gradients: Any) -> Any:
        return tf.clip_by_global_norm(gradients, 0.1)[0]


def test_updates_in_a_loop_are_refused_where_they_would_hang() -> None:
    make, use = trained(Loops)
    with mirrored(2).scope():
        model = make()
    tfdist.plug(model)
    with pytest.raises(Exception, match="write the loop with Python's range"):  # autograph's own
        use(model)


def test_gradients_that_a_loop_sums_are_one_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    said = warnings(monkeypatch)
    same(*trained(Accumulates))
    assert said == []


def test_changed_gradients_of_a_loop_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said = warnings(monkeypatch)
    train(AccumulatesAndClips)
    assert len(said) == 1
    assert "changes gradients that a loop of TensorFlow's" in said[0]


class LooksAcross(HalfOfTwoSums):
    def loss_of(self, x: Any, y: Any) -> Any:
        return tf.sqrt(tf.reduce_mean(tf.square(y - self(x))))


class NobodyCanTell(LooksAcross):
    def loss_of(self, x: Any, y: Any) -> Any:
        errors = tf.reduce_sum(tf.square(y - self(x)), 1)
        return tf.foldl(tf.add, errors, tf.constant(0.0))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (LooksAcross, "the loss of a step is computed across the rows of a batch"),
        (NobodyCanTell, "may be a mean over the rows of a batch or a sum over them"),
        (HalfOfTwoSums, None),
        (ScalesByWhatItLearns, None),
    ],
)
def test_losses_that_parts_do_not_make_up_are_told(
    kind: type[Base], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = warnings(monkeypatch)
    train(kind)
    assert len(said) == (told is not None)
    assert told is None or told in said[0]


def train(kind: type[Base]) -> None:
    make, _ = trained(kind)
    with mirrored(2).scope():
        model = make()
    tfdist.plug(model)
    model.fit(X, TARGETS, **{**FIT, "epochs": 1})


def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is warned of from now on."""
    said: list[str] = []
    monkeypatch.setattr(log, "warning", lambda text, *args: said.append(text % args))
    monkeypatch.setattr(log, "_said", set())
    return said


def test_a_scaled_loss_of_sums_is_one_machines() -> None:
    """A loss scale stands before all that Keras has added up."""

    def make() -> keras.Model:
        layers = [keras.layers.Dense(4, kernel_regularizer="l2"), keras.layers.Dense(2)]
        model = keras.Sequential([keras.Input((8,)), *layers])
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01))
        model.compile(optimizer, lambda y, p: 0.1 * tf.reduce_sum(tf.square(y - p)))
        return model

    same(make, lambda model: model.fit(X, TARGETS, validation_data=(X, TARGETS), **FIT).history)
