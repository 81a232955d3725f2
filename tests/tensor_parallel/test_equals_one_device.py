"""Weights cut over logical CPUs of this process train as on one device, to float rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

import tfdist
from tests.tensor_parallel.layout import LAYOUT
from tests.tensor_parallel.programs_in_parts import sentences
from tests.training import comparing, models
from tests.training.comparing import ADAM_WEIGHTS, BRAIN, Make, Use, assert_same, in_plain_keras
from tests.training.models import FIT, LABELS, TOKENS, WEIGHTS, X
from tfdist.schedules.pipeline_plan import PipelinePlan
from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.training.embeddings.table_slots import plain_slots
from tfdist.training.tensor_parallel.splitting import split_weights


class Used(dict[str, tuple[str | None, ...]]):
    """The rules of `LAYOUT` that a model has weights for: one for no weight is refused."""

    def __init__(self, model: keras.Model) -> None:
        import re

        paths = [v.path for v in model.variables]
        super().__init__(
            {k: v for k, v in LAYOUT.items() if any(re.fullmatch(k, path) for path in paths)}
        )


def strategy(layout: Mapping[str, object] | None, **degrees: Any) -> PipelineStrategy:
    """Over two logical CPUs, or three."""
    size = degrees.pop("tensor_parallel_size", 2)
    pipelined = degrees.pop("stages", 1)
    count = size * degrees.get("replicas", 1) * (1 if pipelined == 1 else pipelined)
    names = tuple(f"CPU:{i % 3}" for i in range(count))
    plan = PipelinePlan(
        names,
        stages=pipelined,
        tensor_parallel_size=size,
        layout_map=layout,
        **{"microbatches": 1, "schedule": "gpipe", **degrees},
    )
    return PipelineStrategy(plan, tuple(f"/device:{name}" for name in names), "/device:CPU:0")


def cut(make: Make, use: Use, degrees: dict[str, Any]) -> tuple[keras.Model, Any]:
    """Makes a model twice, the second time with the layout of its paths, and uses it."""
    with comparing.seeded():
        layout = Used(make())
    with comparing.seeded():
        with strategy(layout, **degrees).scope():
            model = make()
        tfdist.plug(model)
        return model, use(model)


def same(make: Make, use: Use, *several: dict[str, Any], **tolerances: Any) -> None:
    """Asserts that plain Keras and models in parts do the same."""
    plain = in_plain_keras(make, use)
    for degrees in several or ({},):
        model, result = cut(make, use, dict(degrees))
        wholes = split_weights(model)
        assert wholes
        of = {id(shard): one for one in wholes for shard in one.shards}
        weights = list({id(of.get(id(v), v)): of.get(id(v), v) for v in model.weights}.values())
        optimizer = getattr(model, "optimizer", None)
        slots = [] if optimizer is None else plain_slots(optimizer, wholes)
        outcome = dataclasses.replace(
            plain,
            result=result,
            weights=[np.asarray(weight.numpy()) for weight in weights],
            optimizer=[np.asarray(variable.numpy()) for variable in slots],
        )
        assert_same(plain, outcome, where=f"tensor parallel {degrees}", **tolerances)


def fit(model: keras.Model, x: Any = X, **kwargs: Any) -> Any:
    return model.fit(x, LABELS, **{**FIT, **kwargs}).history


def deep(optimizer: Any = None, activation: str = "relu", **compile_: Any) -> keras.Model:
    """Two products that exchange nothing in between, one that has to, and outputs in parts."""
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, activation=activation, name="column_1", kernel_regularizer="l2"),
            layers.Dense(5, activation="tanh", name="row_1", bias_initializer="ones"),
            layers.Dense(7, name="column_2"),
            layers.LeakyReLU(),
            layers.Dense(4, use_bias=False, name="row_2"),
            layers.Dense(3, activation="softmax", name="column_3"),
        ]
    )
    compile_.setdefault("metrics", ["accuracy"])
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer or optimizers.SGD(0.1, momentum=0.9), loss, **compile_)
    return model


THREE = {"tensor_parallel_size": 3}
DEGREES: dict[str, dict[str, Any]] = {
    "two parts": {},
    "three uneven parts": THREE,
    "two replicas of two parts": {"replicas": 2},
    "two stages of two parts, microbatches": {
        "stages": 2,
        "microbatches": 3,
        "schedule": "1f1b",
    },
    "two stages, zero bubble": {"stages": 2, "microbatches": 3, "schedule": "zero_bubble"},
    "recomputed": {"stages": 2, "microbatches": 2, "schedule": "1f1b", "recompute": True},
    "two replicas of two stages of two parts": {"replicas": 2, "stages": 2, "microbatches": 2},
}


@pytest.mark.parametrize("degrees", DEGREES.values(), ids=DEGREES)
def test_products(degrees: dict[str, Any]) -> None:
    same(deep, lambda m: fit(m, sample_weight=WEIGHTS, validation_data=(X, LABELS)), degrees)


@pytest.mark.parametrize("activation", ["gelu", "softmax", "sigmoid"])
def test_activations_of_each_number_and_of_all(activation: str) -> None:
    same(lambda: deep(activation=activation), fit)


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.01, global_clipnorm=0.1),
    "average": lambda: optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=3),
    "accumulation": lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2, clipvalue=0.01),
    "norms": lambda: optimizers.SGD(0.1, clipnorm=0.02),
    "norms, accumulated": lambda: optimizers.SGD(0.1, clipnorm=0.02, gradient_accumulation_steps=2),
    "lion": lambda: optimizers.Lion(0.001),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers(optimizer: Callable[[], Any]) -> None:
    same(lambda: deep(optimizer()), fit, weights=ADAM_WEIGHTS)


@pytest.mark.parametrize("degrees", [{}, THREE, {"replicas": 2}], ids=str)
def test_a_transformer(degrees: dict[str, Any]) -> None:
    same(
        sentences,
        lambda m: [fit(m, TOKENS), m.predict(TOKENS, verbose=0), m(TOKENS[:5]).numpy()],
        degrees,
        weights=ADAM_WEIGHTS,
    )


def test_attention_that_drops_scores_out_draws_what_one_device_draws() -> None:
    def make() -> keras.Model:
        inputs = keras.Input((6,), dtype="int32")
        x = layers.Embedding(20, 8, name="by_rows")(inputs)
        x = layers.MultiHeadAttention(2, 4, dropout=0.5, seed=3, name="attention")(x, x)
        x = layers.Dropout(0.3, seed=4)(layers.Dense(6, name="column")(x))
        x = layers.Flatten()(layers.Dense(2, name="row")(x))
        model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
        model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        return model

    same(make, lambda m: fit(m, TOKENS))


def test_mixed_precision() -> None:
    def make() -> keras.Model:
        keras.config.set_dtype_policy("mixed_bfloat16")
        model = sentences()
        # Not Adam, which moves a weight by its whole rate however small the gradient is.
        model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        return model

    same(make, lambda m: fit(m, TOKENS), history=BRAIN, weights=BRAIN)


def test_gradients_of_gradients_see_the_parts() -> None:
    """A penalty of the gradient (as WGAN-GP's), in a step of a class's own."""

    class Penalized(keras.Model):
        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    predicted = self(x, training=True)
                    first = predicted[:, 0]
                slope = inner.gradient(first, x)
                loss = self.compute_loss(x, y, predicted)
                loss += tf.reduce_mean(tf.square(tf.norm(slope + 1e-3, axis=1) - 1))
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply(gradients, self.trainable_weights)
            return {"loss": loss}

    def make() -> keras.Model:
        plain = deep(activation="tanh")
        model = Penalized(plain.inputs, plain.outputs)
        model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        return model

    same(make, fit, {}, {"replicas": 2})


@comparing.LOSSES_OF_OUTPUTS
def test_two_inputs_and_outputs_with_a_layer_used_twice() -> None:
    def make() -> keras.Model:
        left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
        shared = layers.Dense(6, activation="tanh", name="column_shared")
        both = layers.Add()([shared(left), layers.Activation("relu")(shared(right))])
        outputs = {
            "label": layers.Dense(3, activation="softmax", name="row_label")(both),
            "value": layers.Dense(2, name="row_value")(shared(right)),
        }
        model = keras.Model({"left": left, "right": right}, outputs)
        loss = {"label": "sparse_categorical_crossentropy", "value": "mse"}
        model.compile(optimizers.SGD(0.1), loss)
        return model

    same(make, lambda m: m.fit(models.TWO_IN, models.TWO_OUT, **FIT).history)


def test_a_frozen_weight_stays_and_is_trained_when_it_is_let_go() -> None:
    def use(model: keras.Model) -> Any:
        model.get_layer("column_1").trainable = False
        model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        first = fit(model, epochs=1)
        model.get_layer("column_1").trainable = True
        model.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        return [first, fit(model)]

    same(deep, use, weights=ADAM_WEIGHTS)


def test_files_are_those_of_one_device(tmp_path: Path) -> None:
    """Written in parts, read whole, gone on with in parts of another number."""
    path = tmp_path / "model.keras"

    def continued(model: keras.Model) -> Any:
        fit(model)
        model.save(path)
        return fit(model)

    make = lambda: deep(optimizers.Adam(0.01))  # noqa: E731
    plain = in_plain_keras(make, continued)
    plain_file = path.read_bytes()
    model, result = cut(make, continued, {})
    whole = keras.models.load_model(path)
    assert [type(layer) for layer in whole.layers][1] is layers.Dense
    path.write_bytes(plain_file)
    expected = keras.models.load_model(path)
    for ours, theirs in zip(
        [*whole.weights, *whole.optimizer.variables],
        [*expected.weights, *expected.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=ADAM_WEIGHTS, err_msg=ours.path)
    with strategy(Used(expected), **THREE).scope():
        again = keras.models.load_model(path)
    tfdist.plug(again)
    np.testing.assert_allclose(fit(again)["loss"], plain.result["loss"], rtol=comparing.HISTORY)
    np.testing.assert_allclose(result["loss"], plain.result["loss"], rtol=comparing.HISTORY)
    again.load_weights(path)
    np.testing.assert_allclose(
        again.predict(X, verbose=0), expected.predict(X, verbose=0), rtol=1e-5
    )
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(X), model.predict(X, verbose=0), rtol=1e-6)


def test_a_layer_shows_its_weights_whole() -> None:
    model, _ = cut(deep, fit, {})
    layer = model.get_layer("column_1")
    assert layer.kernel.shape == (8, 6)
    assert np.asarray(layer.kernel).shape == (8, 6)
    assert model.count_params() == deep().count_params()
    assert {v.value.device[-5:] for v in layer.weights} == {"CPU:0", "CPU:1"}


class Gan(keras.Model):
    """A generator and a discriminator with an optimizer each, and steps of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = keras.Sequential(
            [layers.Dense(6, activation="relu", name="column_g"), layers.Dense(8, name="row_g")]
        )
        self.judge = keras.Sequential(
            [layers.Dense(5, activation="tanh", name="column_d"), layers.Dense(1, name="row_d")]
        )
        self.slow, self.fast = optimizers.SGD(0.05), optimizers.Adam(0.01)

    def call(self, x: Any) -> Any:
        return self.judge(self.generator(x))

    def train_step(self, data: Any) -> Any:
        x, _ = data
        with tf.GradientTape(persistent=True) as tape:
            made = self.generator(x, training=True)
            judged, real = self.judge(made, training=True), self.judge(x, training=True)
            of_made = tf.reduce_mean(tf.nn.softplus(-judged))
            of_judge = tf.reduce_mean(tf.nn.softplus(judged) + tf.nn.softplus(-real))
        for loss, part, optimizer in (
            (of_made, self.generator, self.slow),
            (of_judge, self.judge, self.fast),
        ):
            weights = part.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)
        return {"generator": of_made, "judge": of_judge}


def test_a_subclassed_model_with_steps_of_its_own() -> None:
    def make() -> keras.Model:
        model = Gan()
        model(X[:2])
        model.compile()
        return model

    def use(model: keras.Model) -> Any:
        return [fit(model), model.predict(X[:7], verbose=0)]

    same(make, use, {}, THREE, weights=ADAM_WEIGHTS)


def test_a_subclassed_model_with_steps_of_keras_that_is_built_by_its_first_batch() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.up = layers.Dense(6, activation="relu", name="column_up")
            self.down = layers.Dense(3, activation="softmax", name="row_down")

        def call(self, x: Any) -> Any:
            return self.down(self.up(x))

    def make() -> keras.Model:
        model = Own()
        model.compile(
            optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        return model

    def use(model: keras.Model) -> Any:
        return [fit(model, validation_data=(X, LABELS)), model.evaluate(X, LABELS, verbose=0)]

    plain = in_plain_keras(make, use)
    layout = {".*up/kernel": (None, "model"), ".*down/kernel": ("model", None)}
    with comparing.seeded():
        with strategy(layout).scope():
            model = make()
        tfdist.plug(model)
        result = use(model)
    assert len(split_weights(model)) == 3
    np.testing.assert_allclose(result[1], plain.result[1], rtol=comparing.HISTORY)


def test_a_low_rank_update_that_is_asked_for_afterwards_is_heeded() -> None:
    """LoRA looks at the whole weight: then the layer is computed in one place."""

    def use(model: keras.Model) -> Any:
        first = fit(model, epochs=1)
        keras.utils.set_random_seed(3)
        model.get_layer("column_1").enable_lora(2)
        model.get_layer("column_1").lora_kernel_b.assign(np.full((2, 6), 0.1, "float32"))
        model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        return [first, fit(model), model.predict(X[:5], verbose=0)]

    same(deep, use)
