"""A model that drops out draws other masks after it was resumed: those it would have drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist.errors import CheckpointError
from tfdist.training.checkpointing.extra_parts import restore_random_state

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 6)).astype("float32"), RNG.normal(size=(24, 1)).astype("float32")


def model_of(strategy: tf.distribute.Strategy, dropouts: int = 1) -> keras.Model:
    with strategy.scope():
        keras.utils.set_random_seed(7)
        layers = [keras.layers.Dropout(0.5, seed=3 + i) for i in range(dropouts)]
        model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.1), "mse")
    return tfdist.plug(model)


def fit(model: keras.Model, epochs: int, folder: Path) -> dict[str, Any]:
    keep = tfdist.callbacks.Checkpoint(folder)
    history = model.fit(
        X, Y, batch_size=7, epochs=epochs, shuffle=False, verbose=0, callbacks=[keep]
    )
    found: dict[str, Any] = history.history
    return found


def test_a_resumed_model_draws_the_masks_it_would_have_drawn(tmp_path: Path) -> None:
    strategy = tfdist.strategy("one_device")
    whole = model_of(strategy)
    undisturbed = fit(whole, 4, tmp_path / "whole")
    fit(model_of(strategy), 2, tmp_path / "parts")
    resumed = model_of(strategy)
    assert fit(resumed, 4, tmp_path / "parts")["loss"] == undisturbed["loss"][2:]
    for own, expected in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(own, expected)


def test_plain_keras_loads_the_file(tmp_path: Path) -> None:
    fit(model_of(tfdist.strategy("one_device")), 1, tmp_path)
    loaded = keras.models.load_model(tmp_path / "epoch-00001.keras")
    assert loaded.predict(X, verbose=0).shape == (24, 1)


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    strategy = tfdist.strategy("one_device")
    fit(model_of(strategy), 1, tmp_path)
    with pytest.raises(CheckpointError, match="of 1 random layers, but the model has 2"):
        restore_random_state(tmp_path / "epoch-00001.keras", model_of(strategy, dropouts=2))


def test_a_file_that_plain_keras_has_written_has_no_random_state(tmp_path: Path) -> None:
    model = model_of(tfdist.strategy("one_device"))
    model.save(tmp_path / "plain.keras")
    restore_random_state(tmp_path / "plain.keras", model)


class TwoNetworks(keras.Model):
    """Like a GAN: no `call`, two networks, an optimizer for each."""

    def __init__(self) -> None:
        super().__init__()
        self.first = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
        self.second = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        self.optimizers = [keras.optimizers.Adam(0.05), keras.optimizers.Adam(0.1)]

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        x += 0.1 * keras.random.normal((6,))  # drawn by Keras' global seed
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean(tf.square(self.second(self.first(x)) - y))
        for part, optimizer in zip((self.first, self.second), self.optimizers, strict=True):
            weights = part.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def test_a_model_without_call_and_with_optimizers_of_its_own_resumes(tmp_path: Path) -> None:
    strategy = tfdist.strategy("one_device")

    def make() -> keras.Model:
        with strategy.scope():
            keras.utils.set_random_seed(7)
            model = TwoNetworks()
            model.compile()
        return tfdist.plug(model)

    whole = make()
    undisturbed = fit(whole, 4, tmp_path / "whole")
    fit(make(), 2, tmp_path / "parts")
    resumed = make()
    assert fit(resumed, 4, tmp_path / "parts")["loss"] == undisturbed["loss"][2:]
    for own, expected in zip(resumed.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(own, expected)
