"""What cannot be cut is refused in one sentence that says what can be done."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import tfdist
from tests.tensor_parallel.test_equals_one_device import deep, fit, strategy
from tests.training import comparing
from tfdist.errors import PlugError, StrategyError
from tfdist.training.tensor_parallel.splitting import split_weights

COLUMN = {".*column_1/kernel": (None, "model")}


def convolution() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Reshape((8, 1)),
            layers.Conv1D(4, 3, name="conv"),
            layers.Flatten(),
            layers.Dense(6, name="column_1"),
            layers.Dense(3, activation="softmax"),
        ]
    )


def dense(**options: Any) -> Callable[[], keras.Model]:
    def make() -> keras.Model:
        return keras.Sequential(
            [
                keras.Input((8,)),
                layers.Dense(6, name="column_1", **options),
                layers.Dense(3, activation="softmax"),
            ]
        )

    return make


def spectral() -> keras.Model:
    inner = layers.Dense(6, name="column_1")
    return keras.Sequential([keras.Input((8,)), layers.SpectralNormalization(inner)])


REFUSED: dict[str, tuple[Callable[[], keras.Model], Any, str]] = {
    "a weight that cannot be cut": (
        convolution,
        {".*conv/kernel": (None, None, "model")},
        "cuts 'sequential/conv/kernel', a weight of a Conv1D: what can be cut are kernels",
    ),
    "a bias whose kernel is whole": (
        dense(),
        {".*column_1/bias": ("model",)},
        "cuts 'sequential/column_1/bias', but not the outputs of 'sequential/column_1/kernel'",
    ),
    "a bias whose kernel is cut along its inputs": (
        dense(),
        {".*column_1/kernel": ("model", None), ".*column_1/bias": ("model",)},
        "but not the outputs of 'sequential/column_1/kernel': leave the bias out",
    ),
    "a path that no weight has": (
        dense(),
        {"column_1/kernels": (None, "model")},
        "no weight's path (did you mean 'sequential/column_1/kernel'? the model has sequential/",
    ),
    "two patterns for one weight": (
        dense(),
        {".*column.*kernel": (None, "model"), ".*kernel": (None, "model")},
        "layout_map has 2 patterns for the weight 'sequential/column_1/kernel'",
    ),
    "another number of axes": (
        dense(),
        {".*column_1/kernel": ("model",)},
        "for '.*column_1/kernel', but the weight 'sequential/column_1/kernel' has 2 axes",
    ),
    "fewer numbers than devices": (
        lambda: keras.Sequential([keras.Input((8,)), layers.Dense(1, name="column_1")]),
        COLUMN,
        "but that has 1 entries for 2 devices: leave it whole",
    ),
    "a regularizer of the whole weight": (
        dense(kernel_regularizer=keras.regularizers.OrthogonalRegularizer()),
        COLUMN,
        "kernel_regularizer=OrthogonalRegularizer may look at it as a whole",
    ),
    "a constraint of the whole weight": (
        dense(kernel_constraint="max_norm"),
        COLUMN,
        "kernel_constraint=MaxNorm may look at it as a whole",
    ),
    "a weight that another layer assigns": (
        spectral,
        COLUMN,
        "another layer holds it, too, as SpectralNormalization does: leave it whole",
    ),
    "LoRA": (dense(lora_rank=2), COLUMN, "the layer has LoRA"),
}


@pytest.mark.parametrize(("make", "layout", "why"), REFUSED.values(), ids=REFUSED)
def test_a_layout_that_does_not_fit_is_refused(
    make: Callable[[], keras.Model], layout: Any, why: str
) -> None:
    keras.backend.clear_session(free_memory=False)
    with strategy(layout).scope():
        model = make()
        model.compile("sgd", "sparse_categorical_crossentropy")
    tfdist.plug(model)
    with pytest.raises(PlugError, match=re.escape(why)):
        fit(model)
    assert not split_weights(model)


def test_an_optimizer_that_looks_at_whole_weights_is_refused() -> None:
    keras.backend.clear_session(free_memory=False)
    with strategy(COLUMN).scope():
        model = deep(optimizers.Adafactor())
    tfdist.plug(model)
    with pytest.raises(PlugError, match="Adafactor, which may look at a weight as a whole"):
        fit(model)


def test_replicas_of_a_subclassed_model_are_refused() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.up = layers.Dense(6, name="column_1")

        def call(self, x: Any) -> Any:
            return self.up(x)

    with strategy(None, replicas=2).scope():
        model = Own()
        model.compile("sgd", "mse")
    tfdist.plug(model)
    with pytest.raises(
        PlugError, match=r"Own is neither Sequential nor functional, and replicas=2"
    ):
        fit(model)


def test_a_model_without_a_large_weight_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with strategy(None).scope():
        model = deep()
    tfdist.plug(model)
    fit(model, epochs=1)
    assert "no weight of" in caplog.text
    assert "layout_map cuts smaller ones" in caplog.text


def test_a_layer_of_ones_own_kind_stays_whole_unless_it_is_named() -> None:
    class Own(layers.Dense):
        def call(self, inputs: Any) -> Any:
            return 2 * super().call(inputs)

    def make() -> keras.Model:
        model = keras.Sequential([keras.Input((200,)), Own(200, name="own"), layers.Dense(200)])
        model.compile("sgd", "mse")
        return model

    rows = np.ones((4, 200), "float32")
    with strategy(None).scope():
        model = tfdist.plug(make())
    model.fit(rows, rows, verbose=0)
    assert [one.path.rpartition("/")[2] for one in split_weights(model)] == ["kernel", "bias"]
    keras.backend.clear_session(free_memory=False)
    with strategy({".*own/kernel": (None, "model")}).scope():
        model = tfdist.plug(make())
    with pytest.raises(PlugError, match=r"'sequential/own/kernel', a weight of a Own"):
        model.fit(rows, rows, verbose=0)


def test_degrees_that_do_not_fit_are_refused() -> None:
    with pytest.raises(StrategyError, match=r"3 tasks .* for 2 replicas x 1 tasks that share"):
        tfdist.strategy("tensor_parallel", logical_devices=3, replicas=2)
    with pytest.raises(StrategyError, match=r"3 replicas x 2 tasks that share the weights of each"):
        tfdist.strategy("tensor_parallel", logical_devices=3, replicas=3, tensor_parallel_size=2)
    with pytest.raises(StrategyError, match="give tensor_parallel_size=2, too"):
        tfdist.strategy("pipeline", logical_devices=3, layout_map=COLUMN)
    with pytest.raises(StrategyError, match="means nothing to the strategy 'mirrored'"):
        tfdist.strategy("mirrored", layout_map=COLUMN)
    with pytest.raises(StrategyError, match=r"microbatches means nothing to .*'tensor_parallel'"):
        tfdist.strategy("tensor_parallel", logical_devices=3, microbatches=8)


def test_a_weight_that_two_layers_hold_stays_whole() -> None:
    class Normalized(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.wide = [layers.Dense(128, "tanh") for _ in range(2)]
            self.normalized = layers.SpectralNormalization(layers.Dense(128, "tanh"))
            self.last = layers.Dense(3, "softmax")

        def call(self, x: Any, training: bool = False) -> Any:
            for layer in self.wide:
                x = layer(x)
            return self.last(self.normalized(x, training=training))

    def make() -> keras.Model:
        model = Normalized()
        model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        return model

    plain = comparing.in_plain_keras(make, fit)
    with comparing.seeded():
        with strategy(None).scope():
            model = make()
        tfdist.plug(model)
        history = fit(model)
    assert [whole.path.split("/")[-2] for whole in split_weights(model)] == ["dense_1"] * 2
    np.testing.assert_allclose(history["loss"], plain.result["loss"], rtol=1e-5)
