"""Faults in a model, its loss, its metrics and its step: what looks across the batch."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from tests.verify.fault import (
    LABELS,
    PAIRS,
    TARGETS,
    Fault,
    X,
    classifier,
    compiled,
    fit,
    regressor,
)


def batch_normalization() -> None:
    fit(compiled(classifier(layers.BatchNormalization())))


class OwnNormalization(layers.Layer):
    """Batch normalization by hand, without moving statistics."""

    def call(self, x: Any) -> Any:
        return (x - ops.mean(x, axis=0)) / (ops.std(x, axis=0) + 1e-3)


def own_normalization() -> None:
    fit(compiled(classifier(OwnNormalization())))


class BatchDeviation(layers.Layer):
    """The deviation over the batch as one more feature, as in a GAN's critic."""

    def call(self, x: Any) -> Any:
        deviation = ops.mean(ops.std(x, axis=0))
        return ops.concatenate([x, ops.ones_like(x[:, :1]) * deviation], axis=1)


def batch_deviation() -> None:
    fit(compiled(classifier(BatchDeviation())))


class Jitter(layers.Layer):
    """Augmentation by TensorFlow's own random numbers."""

    def call(self, x: Any, training: bool = False) -> Any:
        return x + tf.random.normal(tf.shape(x), stddev=0.1) if training else x


def own_augmentation() -> None:
    fit(compiled(classifier(Jitter())))


class RandomScale(keras.Model):
    """Scales its inputs in the step."""

    def __init__(self) -> None:
        super().__init__()
        self.network = classifier()

    def call(self, x: Any) -> Any:
        return self.network(x)

    def train_step(self, data: Any) -> Any:
        x, y = data
        return super().train_step((x * tf.random.uniform((tf.shape(x)[0], 1), 0.8, 1.2), y))


def augmentation_in_the_step() -> None:
    fit(compiled(RandomScale()))


def masked_loss(y: Any, y_pred: Any) -> Any:
    """A mean over those entries that count, of which each worker has another number."""
    counts = ops.cast(y > 0.5, "float32")
    return ops.sum(counts * ops.square(y - y_pred)) / (ops.sum(counts) + 1e-6)


def loss_by_own_count() -> None:
    fit(regressor(masked_loss), y=TARGETS)


class SumOverConstant(keras.Model):
    """The sum over the batch, divided by the batch size that somebody has in mind."""

    def __init__(self) -> None:
        super().__init__()
        self.network = classifier()

    def call(self, x: Any) -> Any:
        return self.network(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            each = keras.losses.sparse_categorical_crossentropy(y, self(x), from_logits=True)
            loss = tf.reduce_sum(each) / 32.0
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"error": loss}


def sum_over_a_constant() -> None:
    data = tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(32, drop_remainder=True)
    fit(compiled(SumOverConstant(), metrics=None), data, None, batch_size=None)


class Towers(keras.Model):
    """Two towers; the other rows are each query's wrong answers."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.item = (
            keras.Sequential([layers.Dense(12, activation="tanh"), layers.Dense(4)])
            for _ in range(2)
        )

    def call(self, inputs: Any) -> Any:
        query, item = inputs
        return ops.normalize(self.query(query)), ops.normalize(self.item(item))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        query, item = y_pred
        scores = ops.matmul(query, ops.transpose(item)) / 0.5
        right = ops.arange(ops.shape(scores)[0])
        each = keras.losses.sparse_categorical_crossentropy(right, scores, from_logits=True)
        return ops.mean(each)


def in_batch_negatives() -> None:
    model = Towers()
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    fit(model, (X, PAIRS), None)


def correlation_loss(y: Any, y_pred: Any) -> Any:
    """One minus the correlation over the batch."""
    y, y_pred = y - ops.mean(y), y_pred - ops.mean(y_pred)
    return 1 - ops.sum(y * y_pred) / ops.sqrt(ops.sum(y**2) * ops.sum(y_pred**2) + 1e-6)


def correlation() -> None:
    fit(regressor(correlation_loss), y=TARGETS)


def hardest(y: Any, y_pred: Any) -> Any:
    """The mean of the eight largest errors of the batch."""
    errors = ops.square(y - y_pred)[:, 0]
    return ops.mean(ops.top_k(errors, k=8)[0])


def hard_examples() -> None:
    fit(regressor(hardest), y=TARGETS)


def relative_weights(y: Any, y_pred: Any) -> Any:
    """Errors weighted by what each target is of the batch's mean."""
    weights = ops.abs(y) / ops.mean(ops.abs(y))
    return ops.mean(ops.square(weights * (y - y_pred)))


def weights_by_batch() -> None:
    fit(regressor(relative_weights), y=TARGETS)


class Divided(keras.Model):
    """Divides its loss by the number of replicas, as a loop of one's own must."""

    def __init__(self) -> None:
        super().__init__()
        self.network = classifier()

    def call(self, x: Any) -> Any:
        return self.network(x)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return super().compute_loss(*args, **kwargs) / replicas


def divided_by_replicas() -> None:
    fit(compiled(Divided()))


class SlightlyScaled(Divided):
    """Multiplies its loss by a little more on several replicas."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        loss = keras.Model.compute_loss(self, *args, **kwargs)
        return loss * (1 + 1e-5 * (replicas - 1))


def slightly_scaled() -> None:
    fit(compiled(SlightlyScaled()))


class SummedTwice(keras.Model):
    """Sums its gradients over the replicas, as a loop of one's own must."""

    def __init__(self) -> None:
        super().__init__()
        self.network = classifier()

    def call(self, x: Any) -> Any:
        return self.network(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.compute_metrics(x, y, y_pred)


def gradients_summed_twice() -> None:
    fit(compiled(SummedTwice()))


class LargestError(keras.metrics.Metric):
    """The largest error so far: no sum, though its variable is added up as one."""

    def __init__(self, name: str = "largest_error", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.largest = self.add_variable((), "zeros", name="largest")

    def update_state(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.largest.assign(ops.maximum(self.largest, ops.max(ops.abs(y - y_pred))))

    def result(self) -> Any:
        return self.largest


def largest_error() -> None:
    fit(regressor("mse", metrics=[LargestError()]), y=TARGETS)


class Seen(keras.Model):
    """Counts the rows that it has seen, in a variable that says not how it is added up."""

    def __init__(self) -> None:
        super().__init__()
        self.network = classifier()
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")

    def call(self, x: Any) -> Any:
        return self.network(x)

    def train_step(self, data: Any) -> Any:
        x, _ = data
        self.seen.assign_add(ops.cast(ops.shape(x)[0], "float32"))
        return super().train_step(data)


def counted_rows() -> None:
    fit(compiled(Seen()), X[:90], LABELS[:90])


class Centres(keras.Model):
    """Draws each class's rows to a centre, which follows the class' mean in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = layers.Dense(6, activation="tanh")
        self.out = layers.Dense(3)
        self.centres = self.add_weight(
            shape=(3, 6), initializer="zeros", trainable=False, name="centres"
        )

    def call(self, x: Any) -> Any:
        return self.out(self.hidden(x))

    def train_step(self, data: Any) -> Any:
        x, y = data
        logs = super().train_step(data)
        code, chosen = self.hidden(x), ops.one_hot(y, 3)
        count = ops.sum(chosen, axis=0)[:, None] + 1.0
        means = ops.matmul(ops.transpose(chosen), code) / count
        self.centres.assign(0.5 * self.centres + 0.5 * means)
        return logs


def class_centres() -> None:
    fit(compiled(Centres()))


FAULTS = {
    "unsynchronized batch normalization": Fault(
        batch_normalization, "batch normalization", "BatchNormalization as it is by default"
    ),
    "batch normalization by hand": Fault(
        own_normalization, "a layer that looks across the batch", "a layer that takes off the mean"
    ),
    "deviation over the batch": Fault(
        batch_deviation, "a layer that looks across the batch", "a GAN's minibatch deviation"
    ),
    "augmentation by tf.random": Fault(
        own_augmentation, "tf.random in a step", "a layer that adds tf.random.normal"
    ),
    "augmentation in the step": Fault(
        augmentation_in_the_step, "tf.random in a step", "tf.random.uniform in train_step"
    ),
    "a loss divided by its own count": Fault(
        loss_by_own_count, "a loss across the batch", "a masked mean, over each batch's mask"
    ),
    "a sum over a constant": Fault(
        sum_over_a_constant, "the scale of the loss", "tf.reduce_sum(...) / 32"
    ),
    "in-batch negatives": Fault(
        in_batch_negatives, "a loss across the batch", "two towers, scored within the batch"
    ),
    "a correlation as loss": Fault(
        correlation, "a loss across the batch", "one minus Pearson's correlation"
    ),
    "the hardest examples": Fault(
        hard_examples, "a loss across the batch", "the mean of the batch's largest losses"
    ),
    "weights by the batch": Fault(
        weights_by_batch, "a loss across the batch", "weights divided by their mean in the batch"
    ),
    "a loss divided by replicas": Fault(
        divided_by_replicas, "the number of workers", "loss / num_replicas_in_sync"
    ),
    "a loss off by 1e-5": Fault(
        slightly_scaled, "the number of workers", "loss * 1.00001 on two replicas"
    ),
    "gradients summed twice": Fault(
        gradients_summed_twice, "a sum of one's own over replicas", "all_reduce in train_step"
    ),
    "a metric averaged wrongly": Fault(
        largest_error, "a metric that does not add up", "a maximum, which is added up"
    ),
    "a counter of rows": Fault(
        counted_rows, "state that a step writes", "a counter without an aggregation"
    ),
    "centres of classes": Fault(
        class_centres, "state that a step writes", "means of the batch, kept in a variable"
    ),
}
