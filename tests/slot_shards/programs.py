"""Models that are trained with whole slots and with shares, and what they are trained on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, optimizers

THOROUGH = bool(os.environ.get("TFDIST_TEST_THOROUGH"))
SEED = 7
_rng = np.random.default_rng(0)
X = _rng.normal(size=(70, 6)).astype("float32")
WORDS = _rng.integers(0, 20, (70, 5))
Y = _rng.integers(0, 3, 70)
FIT: dict[str, Any] = {"batch_size": 16, "epochs": 3, "verbose": 0}  # the last batch has 6 rows


def classifier(optimizer: Any, *first: Any, **compiling: Any) -> keras.Model:
    """17 and 3 are no multiples of 2, nor is 17 one of 3."""
    model = keras.Sequential(
        [*(first or [keras.Input((6,))]), layers.Dense(17, "tanh"), layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **compiling)
    return model


class Clipping(keras.Sequential):
    """A step of one's own that looks at the gradients."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients, _ = tf.clip_by_global_norm(gradients, 0.2)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.metrics[0].update_state(loss)
        return {"loss": self.metrics[0].result()}


def clipping() -> keras.Model:
    model = Clipping([keras.Input((6,)), layers.Dense(17, "tanh"), layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.Adam(0.01), loss)
    return model


def decayed() -> keras.Model:
    optimizer = optimizers.AdamW(
        0.01,
        weight_decay=0.1,
        global_clipnorm=0.3,
        use_ema=True,
        ema_momentum=0.9,
        ema_overwrite_frequency=4,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return classifier(optimizer)


def constrained() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(17, "tanh", kernel_constraint=keras.constraints.MaxNorm(0.5)),
            layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.1)
    model.compile(optimizer, loss)
    return model


def words(**clipping: Any) -> keras.Model:
    """Of 80 words of a batch, many are one word."""
    table = [keras.Input((5,), dtype="int32"), layers.Embedding(20, 4), layers.Flatten()]
    return classifier(optimizers.Adam(0.01, **clipping), *table)


PROGRAMS: dict[str, tuple[Callable[[], keras.Model], Any]] = {
    "momentum": (lambda: classifier(optimizers.SGD(0.1, momentum=0.9)), X),
    "adam": (lambda: classifier(optimizers.Adam(0.01, amsgrad=True)), X),
    "decay, clipping and averages": (decayed, X),
    "constraints and clipping each": (constrained, X),
    "scaled losses": (
        lambda: classifier(optimizers.LossScaleOptimizer(optimizers.Adam(0.01), 2.0**10)),
        X,
    ),
    "accumulated and clipped by value": (
        lambda: classifier(optimizers.Adam(0.01, gradient_accumulation_steps=2, clipvalue=0.05)),
        X,
    ),
    "sparse gradients": (words, WORDS),
    "clipping of sparse gradients": (lambda: words(global_clipnorm=0.2), WORDS),
    "clipping of each sparse gradient": (lambda: words(clipnorm=0.05), WORDS),
    "a step that looks at gradients": (clipping, X),
    "a rate that falls": (
        lambda: classifier(
            optimizers.Nadam(keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.7))
        ),
        X,
    ),
}


def train(name: str, scope: Any, plug: Callable[[keras.Model], Any]) -> keras.Model:
    """Trains a program's model, and returns it."""
    make, x = PROGRAMS[name]
    keras.utils.set_random_seed(SEED)
    with scope:
        model = make()
    plug(model)
    model.fit(x, Y, **FIT)
    return model


LONG = {
    "momentum",
    "clipping of each sparse gradient",
    "constraints and clipping each",
    "accumulated and clipped by value",
    "a rate that falls",
    "a step that looks at gradients",
    "scaled losses",
    "sparse gradients",
}
"""What differs little from a neighbour."""

USUAL = [name for name in PROGRAMS if THOROUGH or name not in LONG]
"""What workers run; with `scripts/test --thorough` all."""
