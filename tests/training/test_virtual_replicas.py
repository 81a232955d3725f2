"""Virtual replicas of one process do what plain Keras does; what they cannot is refused by name."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tests.training import comparing
from tests.training.comparing import alone, assert_same, in_plain_keras, on_strategy
from tfdist.errors import DataError, PlugError
from tfdist.training.plugged import Plugged

RNG = np.random.default_rng(3)
X = RNG.normal(size=(70, 6)).astype("float32")
Y = RNG.integers(0, 3, 70)
WORDS = RNG.integers(0, 20, (70, 5))


def make(*layers: keras.Layer, optimizer: str = "sgd", **compiled: Any) -> keras.Model:
    model = keras.Sequential([*layers, keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **compiled)
    return model


class Adversarial(keras.Model):
    """Two optimizers, a gradient of a gradient, clipping by the norm, a counter, a teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.body = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dropout(0.3)]
        )
        self.head = keras.layers.Dense(3)
        self.head.build((None, 4))
        self.count = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)
        self.seen = self.add_weight(
            shape=(), initializer="zeros", trainable=False, aggregation="sum"
        )
        self.second = keras.optimizers.SGD(0.1)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.head(self.body(x, training=training))

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                scores = self(x, training=True)
            loss = self.compute_loss(x, y, scores, training=True)
            penalty = tf.reduce_mean(tf.square(inner.gradient(scores, x)))
            total = loss + penalty
        variables = self.trainable_variables
        gradients, _ = tf.clip_by_global_norm(outer.gradient(total, variables), 0.5)
        self.optimizer.apply(gradients[:2], variables[:2])
        self.second.apply(gradients[2:], variables[2:])
        self.count.assign_add(1)
        self.seen.assign_add(tf.cast(tf.shape(x)[0], tf.float32))
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, self(x))
        return {m.name: m.result() for m in self.metrics}


def adversarial() -> keras.Model:
    model = Adversarial()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def fit(x: Any) -> Any:
    return lambda model: (
        model.fit(
            x, Y, batch_size=16, epochs=2, verbose=0, validation_data=(x[:20], Y[:20])
        ).history,
        model.predict(x[:7], verbose=0),
        model.train_on_batch(x[:13], Y[:13]),
    )


@pytest.mark.parametrize(
    ("made", "x"),
    [
        (lambda: make(keras.Input((6,)), keras.layers.Dropout(0.4)), X),
        (lambda: make(keras.Input((6,)), keras.layers.BatchNormalization(synchronized=True)), X),
        (
            lambda: make(
                keras.Input((5,)),
                keras.layers.Embedding(20, 4, mask_zero=True),
                keras.layers.LSTM(4),
            ),
            WORDS,
        ),
        (lambda: make(keras.Input((6,)), keras.layers.Dense(8, "relu"), run_eagerly=True), X),
        (adversarial, X),
    ],
    ids=["dropout", "batch norm", "masked words", "eager", "an own step"],
)
def test_five_virtual_replicas_are_one_machine(made: Any, x: np.ndarray) -> None:
    plain = in_plain_keras(made, fit(x))
    assert_same(plain, on_strategy(alone(), made, fit(x), virtual_replicas=5), where="virtual")


def test_a_step_counts_once_and_a_sum_is_of_all_rows() -> None:
    with alone().scope():
        model = adversarial()
    tfdist.plug(model, virtual_replicas=4).fit(X, Y, batch_size=16, epochs=1, verbose=0)
    assert int(model.count.numpy()) == 5
    assert float(model.seen.numpy()) == 70
    assert int(model.second.iterations.numpy()) == 5


def test_a_batch_with_fewer_rows_than_replicas() -> None:
    def use(model: keras.Model) -> Any:
        return model.train_on_batch(X[:3], Y[:3]), model.predict(X[:3], verbose=0)

    made = lambda: make(keras.Input((6,)), keras.layers.Dropout(0.4))  # noqa: E731
    assert_same(
        in_plain_keras(made, use),
        on_strategy(alone(), made, use, virtual_replicas=5),
        where="virtual",
    )


def test_the_bits_are_those_of_the_slices_and_not_of_the_sums_of_tensorflow() -> None:
    """TensorFlow's optimizer of graphs would add up all slices in one operation, in its order."""

    def trained(virtual: int | None) -> np.ndarray:
        outcome = on_strategy(
            alone(),
            lambda: make(keras.Input((6,)), keras.layers.Dense(64, "relu")),
            lambda model: model.fit(X, Y, batch_size=16, epochs=2, verbose=0).history,
            **({"virtual_replicas": virtual} if virtual else {}),
        )
        return np.concatenate([np.ravel(w) for w in outcome.weights])

    assert trained(8).tobytes() == trained(8).tobytes()
    assert trained(8).tobytes() != trained(None).tobytes()


class LeavesThings(keras.layers.Layer):
    """Adds a loss, and leaves a tensor for later, before and after the replicas have met."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def call(self, x: Any) -> Any:
        self.kept = x
        self.seen.append(tf.reduce_mean(x))
        self.add_loss(0.1 * tf.reduce_mean(tf.square(x)))
        whole = tfdist.gather_batch(x)
        self.add_loss(0.1 * tf.reduce_mean(tf.square(self.kept)) + 0.1 * self.seen.pop())
        return x - tf.reduce_mean(whole, 0)


def test_what_a_replica_leaves_in_a_layer_is_its_own() -> None:
    def made() -> keras.Model:
        dense = keras.layers.Dense(8, "relu", activity_regularizer="l2")
        return make(
            keras.Input((6,)),
            dense,
            LeavesThings(),
            keras.layers.BatchNormalization(synchronized=True),
        )

    assert_same(
        in_plain_keras(made, fit(X)),
        on_strategy(alone(), made, fit(X), virtual_replicas=5),
        where="virtual",
    )


class OneDense(keras.Model):
    """A model with a layer that is built."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(3)
        self.dense.build((None, 6))

    def call(self, x: Any, training: bool = False) -> Any:
        return self.dense(x)


def plugged(kind: type[OneDense], virtual_replicas: int) -> keras.Model:
    with alone().scope():
        model = kind()
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return tfdist.plug(model, virtual_replicas=virtual_replicas)


class Branches(OneDense):
    """Writes a variable inside of a condition."""

    def __init__(self) -> None:
        super().__init__()
        self.last = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        if training:

            def write() -> int:
                self.last.assign(tf.reduce_mean(x))
                return 0

            tf.cond(tf.reduce_sum(x) > -1e9, write, lambda: 0)
        return self.dense(x)


def test_what_virtual_replicas_cannot_write_once_is_refused() -> None:
    model = plugged(Branches, 2)
    with pytest.raises(PlugError, match=r"in a tf\.cond, .* move it out"):
        model.fit(X, Y, batch_size=16, verbose=0)


def test_a_step_that_differs_between_replicas_is_refused() -> None:
    class Uneven(OneDense):
        def train_step(self, data: Any) -> dict[str, Any]:
            context = tf.distribute.get_replica_context()
            if tf.get_static_value(context.replica_id_in_sync_group) == 0:
                context.all_reduce("SUM", tf.ones(()))
            return super().train_step(data)

    model = plugged(Uneven, 2)
    with pytest.raises(PlugError, match="one replica sums or writes what another does not"):
        model.fit(X, Y, batch_size=16, verbose=0)


def test_an_error_of_one_replica_comes_through_and_no_thread_stays() -> None:
    import threading

    class Fails(OneDense):
        def train_step(self, data: Any) -> dict[str, Any]:
            context = tf.distribute.get_replica_context()
            if tf.get_static_value(context.replica_id_in_sync_group) == 1:
                raise ZeroDivisionError("mine")
            return super().train_step(data)

    model = plugged(Fails, 3)
    with pytest.raises(ZeroDivisionError, match="mine"):
        model.fit(X, Y, batch_size=16, verbose=0)
    assert not [t for t in threading.enumerate() if t.name.startswith("tfdist-replica")]


def test_several_devices_of_one_process_are_refused() -> None:
    with comparing.mirrored(2).scope():
        model = make(keras.Input((6,)))
    with pytest.raises(PlugError, match="this process has 2 devices"):
        tfdist.plug(model, virtual_replicas=8)


def test_data_that_each_worker_reads_for_itself_are_refused() -> None:
    with alone().scope():
        model = make(keras.Input((6,)))
    tfdist.plug(model, virtual_replicas=2)

    def own(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)

    with pytest.raises(DataError, match="virtual_replicas with a function"):
        model.fit(own, verbose=0)


def test_a_loss_without_a_reduction_is_refused() -> None:
    with alone().scope():
        model = make(keras.Input((6,)))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True, reduction=None))
    with pytest.raises(PlugError, match="reduction=None"):
        tfdist.plug(model, virtual_replicas=2).fit(X, Y, verbose=0)


@pytest.mark.parametrize("replicas", [1, 2])
def test_each_example_is_counted_once(replicas: int) -> None:
    with tfdist.strategy("one_device").scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    tfdist.plug(model, virtual_replicas=replicas)
    data = np.ones((20, 2), "float32")
    model.fit(data, data[:, :1], batch_size=8, epochs=2, verbose=0)
    plugged = Plugged.of(model)
    assert plugged is not None
    assert plugged.examples == 40
