"""What a `train_step` of one's own sees between the tape and the optimizer is one machine's."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tests.training.comparing import EVERY, in_plain_keras, on_replicas, same
from tests.training.models import EXAMPLES, TARGETS, X

FIT: dict[str, Any] = {"batch_size": 32, "epochs": 2, "shuffle": False, "verbose": 0}


class Base(keras.Model):
    """Two layers, and a step that subclasses fill."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(6, activation="tanh")
        self.out = keras.layers.Dense(2)

    def build(self, shape: Any) -> None:
        self.hidden.build(shape)
        self.out.build((None, 6))

    def call(self, x: Any, training: bool = False) -> Any:
        return self.out(self.hidden(x))

    def loss_of(self, x: Any, y: Any) -> Any:
        return tf.reduce_mean(tf.square(y - self(x, training=True)))

    def gradients_of(self, x: Any, y: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            loss = self.loss_of(x, y)
        return loss, tape.gradient(loss, self.trainable_variables)

    def apply(self, gradients: Any) -> None:
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))


def trained(kind: type[Base], optimizer: str = "sgd", **fit: Any) -> Any:
    """The two functions of a program: makes a model of the kind, and trains it."""

    def make() -> keras.Model:
        model = kind()
        model.build((None, 8))
        model.compile(keras.optimizers.get(optimizer), loss="mse")
        return model

    return make, lambda model: model.fit(X, TARGETS, **{**FIT, **fit}).history


class ClipsByGlobalNorm(Base):
    def train_step(self, data: Any) -> Any:
        loss, gradients = self.gradients_of(*data)
        gradients, norm = tf.clip_by_global_norm(gradients, 0.3)
        self.apply(gradients)
        return {"loss": loss, "norm": norm}


class AddsNoise(Base):
    """Noise of a gradient's shape, from a seeded generator: one machine's on every replica."""

    def __init__(self) -> None:
        super().__init__()
        self.seed = keras.random.SeedGenerator(3)

    def train_step(self, data: Any) -> Any:
        loss, gradients = self.gradients_of(*data)
        self.apply([g + 0.1 * keras.random.normal(g.shape, seed=self.seed) for g in gradients])
        return {"loss": loss}


class AddsNoiseWithoutASeed(Base):
    """The same from the generator that Keras makes by itself at the first use."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        loss, gradients = self.gradients_of(x + 0.1 * keras.random.normal(tf.shape(x)), y)
        self.apply([g + 0.1 * keras.random.normal(g.shape) for g in gradients])
        return {"loss": loss}


@pytest.mark.parametrize("drawn_before", [False, True], ids=["first in the step", "drawn before"])
def test_random_numbers_without_a_seed_are_one_machines(drawn_before: bool) -> None:
    make, use = trained(AddsNoiseWithoutASeed)

    def use_it(model: keras.Model) -> Any:
        keras.utils.set_random_seed(5)  # which drops Keras' own generator
        if drawn_before:
            keras.random.normal((2,))  # made outside of every scope
        return use(model)

    same(make, use_it, on=EVERY)


def test_a_programs_own_random_numbers_go_on_as_ever() -> None:
    """Keras may draw the seed of its generator from Python's random numbers."""
    make, use = trained(Base)

    def after(model: keras.Model) -> Any:
        random.seed(3)
        return use(model), random.random()

    keras.backend.clear_session(free_memory=False)
    same(make, after)


class Accumulates(Base):
    """Sums of gradients in variables of its own, applied at every second step."""

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.sums = [tf.Variable(tf.zeros(v.shape), trainable=False) for v in self.weights]
        self.count = self.add_weight(name="count", dtype="int32", trainable=False)

    def train_step(self, data: Any) -> Any:
        loss, gradients = self.gradients_of(*data)
        for total, gradient in zip(self.sums, gradients, strict=True):
            total.assign_add(gradient)
        self.count.assign_add(1)

        def use() -> None:
            clipped, _ = tf.clip_by_global_norm([tf.identity(s) for s in self.sums], 0.5)
            self.apply(clipped)
            for total in self.sums:
                total.assign(tf.zeros_like(total))

        tf.cond(tf.equal(self.count % 2, 0), use, lambda: None)
        return {"loss": loss}


class DropsConflicts(Base):
    """Gradient surgery (Yu et al., 2020): a gradient without what opposes the other one."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            found = self(x, training=True)
            one = tf.reduce_mean(tf.square(y[:, 0] - found[:, 0]))
            two = tf.reduce_mean(tf.abs(y[:, 1] - found[:, 1]))
        variables = self.hidden.trainable_variables
        gradients = []
        for a, b in zip(tape.gradient(one, variables), tape.gradient(two, variables), strict=True):
            dot = tf.reduce_sum(a * b)
            against = tf.minimum(dot, 0.0) / tf.reduce_sum(b * b)
            gradients.append(a - against * b + b)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {"one": one, "two": two}


class PenalizesTheGradientOfItsWeights(Base):
    """A second derivative, through the gradient of variables."""

    def train_step(self, data: Any) -> Any:
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                loss = self.loss_of(*data)
            first = inner.gradient(loss, self.trainable_variables)
            total = loss + 0.1 * tf.add_n([tf.reduce_sum(g * g) for g in first])
        self.apply(outer.gradient(total, self.trainable_variables))
        return {"loss": total}


class PenalizesTheGradientOfItsInputs(Base):
    """As WGAN-GP does: with respect to tensors a gradient is the replica's own."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                found = self(x, training=True)
            slopes = inner.gradient(found, x)
            norm = tf.sqrt(tf.reduce_sum(tf.square(slopes), axis=1))
            loss = tf.reduce_mean(tf.square(y - found)) + tf.reduce_mean(tf.square(norm - 1.0))
        self.apply(outer.gradient(loss, self.trainable_variables))
        return {"loss": loss}


class ByHand(Base):
    """A gradient that no tape has made: of the last bias, of a mean squared error."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        error = self(x, training=True) - y
        self.optimizer.apply_gradients([(tf.reduce_mean(error, axis=0), self.out.bias)])
        return {"loss": tf.reduce_mean(tf.square(error))}


class GathersTheBatch(Base):
    """In-batch negatives: every row's loss looks at all rows of the global batch."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            rows = tfdist.gather_batch({"found": self(x, training=True), "wanted": y})
            scores = tf.matmul(rows["found"], rows["wanted"], transpose_b=True)
            labels = tf.range(tf.shape(scores)[0])
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=scores)
            )
        self.apply(tape.gradient(loss, self.trainable_variables))
        return {"loss": loss}


class AveragesATeacher(Base):
    def build(self, shape: Any) -> None:
        super().build(shape)
        self.teacher = [
            self.add_weight(shape=v.shape, initializer="zeros", trainable=False, name=f"slow_{i}")
            for i, v in enumerate(self.trainable_variables)
        ]

    def train_step(self, data: Any) -> Any:
        loss, gradients = self.gradients_of(*data)
        self.apply(gradients)
        for slow, fast in zip(self.teacher, self.trainable_variables, strict=True):
            slow.assign(0.9 * slow + 0.1 * fast)
        return {"loss": loss}


class DropsOut(Base):
    def __init__(self) -> None:
        super().__init__()
        self.drop = keras.layers.Dropout(0.4, seed=5)
        self.noise = keras.layers.GaussianNoise(0.3, seed=6)
        self.spatial = keras.layers.SpatialDropout1D(0.3, seed=7)

    def call(self, x: Any, training: bool = False) -> Any:
        x = self.noise(self.drop(self.hidden(x), training=training), training=training)
        x = tf.reshape(self.spatial(tf.reshape(x, [-1, 3, 2]), training=training), [-1, 6])
        return self.out(x)


class DrawsOfEveryKind(Base):
    def __init__(self) -> None:
        super().__init__()
        self.seed = keras.random.SeedGenerator(3)

    def loss_of(self, x: Any, y: Any) -> Any:
        rows = tf.shape(x)[0]
        noise = keras.random.uniform((rows, 8), -1.0, 1.0, seed=self.seed)
        noise += keras.random.truncated_normal((rows, 8), seed=self.seed)
        noise += keras.ops.cast(keras.random.randint((rows, 1), 0, 5, seed=self.seed), "float32")
        noise += tf.random.stateless_normal([rows * 2, 4], seed=[1, 2])[::2, :1]
        noise += keras.random.normal((8,), seed=self.seed)  # one for all rows
        return super().loss_of(x + noise, y)

    def train_step(self, data: Any) -> Any:
        loss, gradients = self.gradients_of(*data)
        self.apply(gradients)
        return {"loss": loss}


class Sums(Base):
    """A loss that is a sum over the rows, and a penalty that is none."""

    def loss_of(self, x: Any, y: Any) -> Any:
        each = tf.reduce_sum(tf.square(y - self(x, training=True)), axis=1)
        weights = tf.add_n([tf.nn.l2_loss(v) for v in self.trainable_variables])
        return 0.01 * tf.reduce_sum(each) - 0.1 * tf.reduce_mean(each) + 0.01 * weights

    def train_step(self, data: Any) -> Any:
        loss, gradients = self.gradients_of(*data)
        self.apply(gradients)
        return {"loss": loss, "squares": tf.reduce_sum(tf.square(data[1]))}


class LeavesTheSumToTheTape(Sums):
    """A target with an entry for each row: TensorFlow differentiates the sum of all."""

    def loss_of(self, x: Any, y: Any) -> Any:
        return 0.01 * keras.losses.mean_squared_error(y, self(x, training=True))

    def train_step(self, data: Any) -> Any:
        loss, gradients = self.gradients_of(*data)
        self.apply(gradients)
        return {"loss": tf.reduce_mean(loss)}


class DividesByItself(Base):
    """Means that are written as sums over a count."""

    def loss_of(self, x: Any, y: Any) -> Any:
        error = tf.square(y - self(x, training=True))
        rows = tf.cast(tf.shape(x)[0], tf.float32)
        return tf.reduce_sum(error) / rows + tf.reduce_sum(error / (2.0 * rows))

    def train_step(self, data: Any) -> Any:
        loss, gradients = self.gradients_of(*data)
        self.apply(gradients)
        return {"loss": loss}


class DrawsForBatchesBehindEachOther(DrawsOfEveryKind):
    """Real and generated rows in one tensor, whose labels are noisy (DCGAN)."""

    def loss_of(self, x: Any, y: Any) -> Any:
        both = tf.concat([x, 2.0 * x], axis=0)
        labels = tf.concat([tf.zeros_like(y), tf.ones_like(y)], axis=0)
        labels += 0.5 * keras.random.uniform(keras.ops.shape(labels), seed=self.seed)
        mixed = keras.random.beta((tf.shape(x)[0], 1), 0.3, 0.4, seed=self.seed)
        mixed += keras.random.gamma((tf.shape(x)[0],), 0.3, seed=self.seed)[:, None]
        own = tf.reduce_mean(tf.square(self(both, training=True) - labels))
        return own + Base.loss_of(self, mixed * x, y)


class MixesRowsOfTheBatch(Base):
    """Mixup with partners that may be any replica's."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        others = tfdist.own_rows(tf.reverse(tfdist.gather_batch(x), [0]))
        loss, gradients = self.gradients_of(0.7 * x + 0.3 * others, y)
        self.apply(gradients)
        return {"loss": loss}


KINDS = [
    ClipsByGlobalNorm,
    AddsNoise,
    Accumulates,
    DropsConflicts,
    PenalizesTheGradientOfItsWeights,
    PenalizesTheGradientOfItsInputs,
    ByHand,
    GathersTheBatch,
    AveragesATeacher,
    DropsOut,
    DrawsOfEveryKind,
    DrawsForBatchesBehindEachOther,
    MixesRowsOfTheBatch,
    Sums,
    LeavesTheSumToTheTape,
    DividesByItself,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_own_step_is_one_machines(kind: type[Base]) -> None:
    same(*trained(kind), on=EVERY)


@pytest.mark.parametrize("kind", [Sums, LeavesTheSumToTheTape, DividesByItself, DropsOut])
def test_batches_of_a_size_that_the_graph_knows(kind: type[Base]) -> None:
    data = tf.data.Dataset.from_tensor_slices((X, TARGETS)).batch(30, drop_remainder=True)
    make, _ = trained(kind)
    same(make, lambda model: model.fit(data, epochs=2, verbose=0).history, on=EVERY)


def test_one_row_for_three_replicas_gathers_and_clips_what_is_there() -> None:
    """The last batch of 33 has one row: two replicas run on stand-ins."""

    def use(model: keras.Model) -> Any:
        return model.fit(X[:33], TARGETS[:33], **FIT).history

    for kind in (GathersTheBatch, ClipsByGlobalNorm, DropsOut):
        make, _ = trained(kind)
        same(make, use, on=(3,))


def test_stateful_noise_of_gradients_is_the_same_on_all_replicas() -> None:
    class Noisy(Base):
        def train_step(self, data: Any) -> Any:
            loss, gradients = self.gradients_of(*data)
            self.apply([g + tf.random.normal(g.shape) for g in gradients])
            return {"loss": loss}

    on_replicas(3, *trained(Noisy))  # asserts that the replicas' weights agree


def test_the_same_masks_as_one_process_whatever_the_number_of_replicas() -> None:
    plain = in_plain_keras(*trained(DropsOut))
    for replicas in (2, 3):
        other = on_replicas(replicas, *trained(DropsOut))
        np.testing.assert_allclose(other.result["loss"], plain.result["loss"], rtol=1e-5)
    assert EXAMPLES % 32 % 2  # the last batch is shared unevenly
