"""Steps, calls and losses of a class's own in a pipeline are what they are in one process."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops, optimizers

import tfdist
from tests.pipeline.stacks import OwnStep
from tests.training import comparing, models
from tests.training.comparing import Use
from tests.training.models import FIT, LABELS, WEIGHTS, X
from tests.training.test_pipeline import TWO, piped, same
from tfdist.errors import PlugError


class ByTheBook(OwnStep):
    """Keras' guide: a step with its own loop of tape, loss, optimizer and metrics."""

    def train_step(self, data: Any) -> Any:
        logs = super().train_step(data)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(logs["own"])
        return {**{metric.name: metric.result() for metric in self.metrics}, **logs}

    def test_step(self, data: Any) -> Any:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        predicted = self(x, training=False)
        self.compute_metrics(x, y, predicted)
        return {**self.get_metrics_result(), "largest": ops.max(predicted)}

    def predict_step(self, data: Any) -> Any:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return ops.argmax(self(x, training=False), axis=-1)


def built(kind: type[keras.Model]) -> keras.Model:
    inputs = keras.Input((8,))
    hidden = layers.Dense(6, activation="tanh", kernel_regularizer="l2")(inputs)
    hidden = layers.Dense(5, activation="tanh", activity_regularizer="l1")(hidden)
    hidden = layers.Concatenate()([hidden, inputs])
    model = kind(inputs, layers.Dense(3, activation="softmax")(hidden))
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def use(model: keras.Model, **kwargs: Any) -> Any:
    history = model.fit(X, LABELS, **{**FIT, "validation_data": (X, LABELS), **kwargs}).history
    return [history, model.predict(X, verbose=0), model.train_on_batch(X[:9], LABELS[:9])]


PLANS: dict[str, dict[str, Any]] = {
    "1f1b": TWO,
    "zero bubble, microbatches without rows": {
        "stages": 3,
        "microbatches": 10,
        "schedule": "zero_bubble",
    },
    "interleaved": {"stages": 4, "microbatches": 4, "schedule": "interleaved"},
    "recomputed": {**TWO, "recompute": True},
    "two replicas": {"stages": 2, "microbatches": 2, "replicas": 2},
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_step_by_the_book_is_what_it_is_in_one_process(plan: dict[str, Any]) -> None:
    same(lambda: built(ByTheBook), lambda m: use(m, sample_weight=WEIGHTS), plan)


def test_a_step_that_only_one_model_has_is_heeded() -> None:
    """Set on the model, not on its class."""

    def make() -> keras.Model:
        model = models.regressor()
        step = model.train_step

        def twice(data: Any) -> Any:
            step(data)
            return step(data)

        model.train_step = twice
        return model

    same(make, lambda m: m.fit(X, models.TARGETS, **FIT).history)


@pytest.mark.parametrize("kind", [keras.Model, keras.Sequential])
def test_a_call_of_ones_own_is_heeded(kind: type[keras.Model]) -> None:
    class Twice(kind):
        def call(self, inputs: Any, training: bool | None = None) -> Any:
            return 2 * super().call(inputs, training=training)

    def make() -> keras.Model:
        inputs, parts = keras.Input((8,)), [layers.Dense(6, activation="tanh"), layers.Dense(2)]
        if kind is keras.Sequential:
            model = Twice([inputs, *parts])
        else:
            model = Twice(inputs, parts[1](parts[0](inputs)))
        model.compile(optimizers.SGD(0.1), "mse", metrics=["mae"])
        return model

    def use(model: keras.Model) -> Any:
        history = model.fit(X, models.TARGETS, **FIT).history
        score = model.evaluate(X, models.TARGETS, verbose=0, return_dict=True)
        return [history, score, model.predict(X, verbose=0)]

    same(make, use)


class Penalized(keras.Model):
    """Gulrajani et al. (2017): the gradient by the inputs is itself trained."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(x)
                predicted = self(x, training=True)
            slope = inner.gradient(predicted, x)
            penalty = ops.mean((ops.norm(slope, axis=1) - 1) ** 2)
            loss = ops.mean(ops.square(predicted - y)) + penalty
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss, "penalty": penalty}


class Two(keras.Model):
    """Two calls, one tape that is asked twice, two optimizers."""

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        self.second = optimizers.Adam(0.01)

    def train_step(self, data: Any) -> Any:
        x, y = data
        first, last = self.trainable_variables[:2], self.trainable_variables[2:]
        with tf.GradientTape(persistent=True) as tape:
            near = self(x, training=True)
            far = self(x + 1.0, training=False)
            ours = ops.mean(ops.square(near - y))
            theirs = ops.mean(ops.square(far - near))
        self.optimizer.apply(tape.gradient(ours, first), first)
        self.second.apply(tape.gradient(theirs, last), last)
        return {"ours": ours, "theirs": theirs}


class Distilled(keras.Model):
    """Its own outputs for other inputs, which the tape does not see, are a target, too."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            near = self(x, training=True)
            with tape.stop_recording():
                still = self(0.5 * x, training=False)
            loss = ops.mean(ops.square(near - y)) + 0.1 * ops.mean(ops.square(near - still))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"error": loss}


@pytest.mark.parametrize("plan", [TWO, {**TWO, "recompute": True}], ids=["kept", "recomputed"])
@pytest.mark.parametrize("kind", [Penalized, Two, Distilled])
def test_gradients_are_those_of_one_process(kind: type[keras.Model], plan: dict[str, Any]) -> None:
    def make() -> keras.Model:
        inputs = keras.Input((8,))
        hidden = layers.Dense(6, activation="tanh")(inputs)
        model = kind(inputs, layers.Dense(2)(layers.Dense(5, activation="tanh")(hidden)))
        model.compile(optimizers.SGD(0.1, momentum=0.9))
        return model

    same(
        make,
        lambda m: m.fit(X, models.TARGETS, **FIT).history,
        plan,
        weights=comparing.ADAM_WEIGHTS,
    )


def test_mixed_precision_is_as_precise_as_before() -> None:
    def half() -> keras.Model:
        keras.config.set_dtype_policy("mixed_float16")
        try:
            inputs = keras.Input((8,))
            hidden = layers.BatchNormalization()(layers.Dense(6, activation="tanh")(inputs))
            outputs = layers.Dense(3, activation="softmax", dtype="float32")(hidden)
            model = Scaled(inputs, outputs)
        finally:
            keras.config.set_dtype_policy("float32")
        model.compile(
            optimizers.LossScaleOptimizer(optimizers.SGD(0.1), initial_scale=2.0**10),
            "sparse_categorical_crossentropy",
        )
        return model

    class Scaled(keras.Model):
        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
                scaled = self.optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    same(
        half,
        lambda m: m.fit(X, LABELS, **FIT).history,
        {"stages": 2, "microbatches": 1},
        history=comparing.HALF,
        weights=comparing.HALF,
    )


@pytest.mark.parametrize("attached", [False, True])
def test_a_mask_that_the_step_gives_is_heeded(attached: bool) -> None:
    class Masked(keras.Model):
        def train_step(self, data: Any) -> Any:
            x, y = data
            mask = x[:, :, 0] > 0
            if attached:  # as a layer that makes masks does
                x, mask = layers.Masking(1.0)(x), None
            with tf.GradientTape() as tape:
                loss = ops.mean(ops.square(self(x, mask=mask, training=True) - y))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    def make() -> keras.Model:
        inputs = keras.Input((4, 2))
        hidden = layers.SimpleRNN(5)(layers.Dense(3, activation="tanh")(inputs))
        model = Masked(inputs, layers.Dense(2)(hidden))
        model.compile(optimizers.SGD(0.1))
        return model

    x = np.where(X > 0.5, 1.0, X).reshape(-1, 4, 2)
    same(make, lambda m: m.fit(x, models.TARGETS, **FIT).history)


def test_masks_and_sparse_gradients_go_through() -> None:
    def make() -> keras.Model:
        inputs = keras.Input((6,), dtype="int32")
        hidden = layers.Embedding(20, 4, mask_zero=True)(inputs)
        hidden = layers.Dense(5, activation="tanh")(hidden)
        model = ByTheBook(inputs, layers.Dense(20, activation="softmax")(hidden))
        model.compile(optimizers.SGD(0.5), "sparse_categorical_crossentropy")
        return model

    same(make, lambda m: m.fit(models.TOKENS, models.TOKENS, **FIT).history)


def test_a_step_is_measured_slot_by_slot() -> None:
    model = piped({"stages": 2, "microbatches": 4}, lambda: built(ByTheBook))
    timings = tfdist.pipeline.measure(model, (X, LABELS))
    assert len(timings.slots) == 2 * 2 * 4
    ends = {(one.slot.direction, one.slot.stage): one.end for one in timings.slots}
    begins = [one.begin for one in timings.slots if one.slot.direction == "backward"]
    assert ends["forward", 1] <= min(begins) + 1e-6


def test_a_step_that_leaves_the_model_out_is_refused() -> None:
    class ByLayers(keras.Model):
        def train_step(self, data: Any) -> Any:
            x, y = data
            x = self.layers[1](x)
            return {"loss": ops.mean(x - ops.cast(y, "float32")[:, None])}

    with pytest.raises(PlugError, match=r"ByLayers does not call the model.*self\(x\)"):
        piped(TWO, lambda: built(ByLayers)).fit(X, LABELS, **FIT)


def test_a_layer_that_assigns_what_is_trained_is_refused() -> None:
    def normalized() -> keras.Model:
        spectral = layers.SpectralNormalization(layers.Dense(8))
        model = keras.Sequential([keras.Input((8,)), spectral, layers.Dense(3)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    with pytest.raises(PlugError, match="kernel is trained, and a layer assigns it in its call"):
        piped(TWO, normalized).fit(X, LABELS, **FIT)


def test_a_loss_for_each_row_is_refused() -> None:
    def unreduced() -> keras.Model:
        model = keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dense(3)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
        model.compile("sgd", loss)
        return model

    with pytest.raises(PlugError, match="microbatches put one number together: use reduction="):
        piped(TWO, unreduced).fit(X, LABELS, **FIT)


class Summed(layers.Layer):
    """Adds a sum over the rows to the loss."""

    def call(self, x: Any) -> Any:
        self.add_loss(0.01 * ops.sum(ops.square(x)))
        return x


def test_a_sum_that_a_layer_adds_counts_the_rows_that_there_are() -> None:
    """The last batch has fewer rows than there are microbatches."""

    def summing() -> keras.Model:
        hidden = [layers.Dense(6, "tanh"), Summed(), layers.Dense(5, "tanh"), Summed()]
        model = keras.Sequential([keras.Input((8,)), *hidden, layers.Dense(3)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    fit: Use = lambda m: m.fit(X[:26], LABELS[:26], **{**FIT, "batch_size": 8}).history  # noqa: E731
    same(summing, fit, {**TWO, "microbatches": 4})


def tied() -> keras.Model:
    """A table that the first stage looks up and the last multiplies with."""
    inputs = keras.Input((6,), dtype="int32")
    words = layers.ReversibleEmbedding(20, 8)
    again = layers.Dense(8, activation="tanh")
    hidden = again(layers.Dense(8)(again(words(inputs))))
    model = keras.Model(inputs, words(hidden, reverse=True))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.Adam(0.01), loss)
    return model


@pytest.mark.parametrize(
    "plan",
    [TWO, {**TWO, "schedule": "zero_bubble"}, {"stages": 2, "microbatches": 2, "replicas": 2}],
    ids=["1f1b", "zero bubble", "two replicas"],
)
def test_weights_may_be_tied_between_stages(plan: dict[str, Any]) -> None:
    fit: Use = lambda m: m.fit(models.TOKENS, models.TOKENS, **FIT).history  # noqa: E731
    same(tied, fit, plan, weights=comparing.ADAM_WEIGHTS)
    assert np.isfinite(fit(piped(plan, tied))["loss"]).all()
