"""Every way of taking a step gives on logical CPUs what it gives in plain Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, optimizers

from tests.training import comparing
from tests.training.comparing import EVERY, same
from tests.training.models import (
    FIT,
    LABELS,
    TARGETS,
    TOKENS,
    X,
    classifier,
    regressor,
)


def fit(model: keras.Model, **settings: Any) -> Any:
    return model.fit(X, TARGETS, **{**FIT, **settings}).history


SGD = {
    "plain": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.1),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.05),
    "global_clipnorm": lambda: optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.1),
    "weight_decay": lambda: optimizers.SGD(0.1, weight_decay=0.01),
    "ema": lambda: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9),
    "ema_every_3": lambda: optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=3),
    "accumulation": lambda: optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=3),
    "accumulation_clipnorm": lambda: optimizers.SGD(
        0.1, global_clipnorm=0.1, gradient_accumulation_steps=2
    ),
    "schedule": lambda: optimizers.SGD(
        optimizers.schedules.ExponentialDecay(0.2, decay_steps=2, decay_rate=0.5)
    ),
}
ADAPTIVE = {
    "adam": lambda: optimizers.Adam(0.01),
    "adam_amsgrad_clipnorm": lambda: optimizers.Adam(0.01, amsgrad=True, clipnorm=0.5),
    "adamw_accumulation": lambda: optimizers.AdamW(0.01, gradient_accumulation_steps=2),
    "rmsprop": lambda: optimizers.RMSprop(0.001, centered=True, momentum=0.9),
    "adagrad": lambda: optimizers.Adagrad(0.05),
    "ftrl": lambda: optimizers.Ftrl(0.05),
    "adafactor": lambda: optimizers.Adafactor(0.01),
    "lamb": lambda: optimizers.Lamb(0.01),
}


def some(names: Iterable[str], fewer: list[str]) -> list[str]:
    return list(names) if comparing.THOROUGH else fewer


@pytest.mark.parametrize(
    "name", some(SGD, ["momentum", "clipnorm", "ema", "accumulation_clipnorm", "schedule"])
)
def test_gradient_descent(name: str) -> None:
    same(lambda: regressor(SGD[name]()), lambda model: fit(model, epochs=3))


@pytest.mark.parametrize("name", some(ADAPTIVE, ["adam", "adamw_accumulation", "ftrl"]))
def test_adaptive_steps(name: str) -> None:
    make = lambda: regressor(ADAPTIVE[name]())  # noqa: E731
    same(make, lambda model: fit(model, epochs=3), weights=comparing.ADAM_WEIGHTS)


@pytest.mark.parametrize("replicas", comparing.EVERY)
@pytest.mark.parametrize("name", ["plain", "momentum", "adam"])
def test_step_by_step_where_a_replica_is_left_out(name: str, replicas: int) -> None:
    """The weights after every one of eight steps, of 32 examples and of two."""

    def use(model: keras.Model) -> Any:
        steps = []
        for _ in range(2):
            for start, stop in ((0, 32), (32, 64), (64, 96), (96, 98)):
                logs = model.train_on_batch(X[start:stop], LABELS[start:stop])
                steps.append((logs, [float(weight.numpy().sum()) for weight in model.weights]))
        return steps

    optimizer: Callable[[], Any] = {**SGD, **ADAPTIVE}[name]
    same(
        lambda: classifier(optimizer()),
        use,
        on=(replicas,),
        weights=comparing.ADAM_WEIGHTS if name == "adam" else comparing.WEIGHTS,
    )


@pytest.mark.parametrize(
    "name", some(["plain", "momentum", "clipnorm", "accumulation"], ["momentum", "accumulation"])
)
def test_sparse_gradients_of_an_embedding(name: str) -> None:
    def make() -> keras.Model:
        parts = [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(20, 4),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
        model = keras.Sequential(parts)
        model.compile(SGD[name](), "sparse_categorical_crossentropy")
        return model

    same(make, lambda model: model.fit(TOKENS[:98], LABELS[:98], **FIT).history)


def test_exponential_averages_take_the_weights_place_at_the_end() -> None:
    outcome = same(
        lambda: regressor(optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9)),
        lambda model: (fit(model), model.evaluate(X, TARGETS, verbose=0)),
    )
    assert outcome.result[0]["loss"]


def test_a_schedule_is_counted_in_steps_of_the_job() -> None:
    def use(model: keras.Model) -> Any:
        fit(model)
        iterations, rate = model.optimizer.iterations, model.optimizer.learning_rate
        return [int(iterations.numpy()), float(keras.ops.convert_to_numpy(rate))]

    outcome = same(lambda: regressor(SGD["schedule"]()), use)
    assert outcome.result[0] == 8


def test_weights_without_a_gradient_stay_as_they_are() -> None:
    def make() -> keras.Model:
        inputs = keras.Input((8,))
        unused = layers.Dense(2, name="unused")(inputs)
        outputs = layers.Dense(2)(inputs) + 0.0 * keras.ops.stop_gradient(unused)
        model = keras.Model(inputs, outputs)
        model.compile(optimizers.SGD(0.1, momentum=0.9), "mse")
        return model

    with pytest.warns(UserWarning, match="Gradients do not exist"):
        same(make, fit)


# ---------------------------------------------------------------- mixed precision


def test_mixed_precision_with_the_optimizer_that_keras_wraps_by_itself() -> None:
    def make() -> keras.Model:
        keras.config.set_dtype_policy("mixed_float16")
        model = regressor()
        assert isinstance(model.optimizer, optimizers.LossScaleOptimizer)
        return model

    same(make, fit, on=EVERY, history=comparing.HALF, weights=comparing.HALF)


def test_loss_scaling_skips_steps_until_it_settles_on_the_same_scale() -> None:
    def make() -> keras.Model:
        keras.config.set_dtype_policy("mixed_float16")
        inner = optimizers.SGD(0.05)
        return regressor(optimizers.LossScaleOptimizer(inner, initial_scale=2.0**22))

    def use(model: keras.Model) -> Any:
        for i in range(12):
            model.train_on_batch(X[i : i + 31], TARGETS[i : i + 31])
        optimizer = model.optimizer
        steps = optimizer.inner_optimizer.iterations
        return float(optimizer.dynamic_scale.numpy()), int(steps.numpy())

    scale, steps = comparing.in_plain_keras(make, use).result
    assert scale < 2.0**22
    assert 0 < steps < 12
    for replicas in (2, 3):
        # A sum over the whole batch can overflow where the sums over its parts do just not: the
        # scale may be one doubling apart, and one step more or less is skipped.
        other_scale, other_steps = comparing.on_replicas(replicas, make, use).result
        assert 0.5 <= other_scale / scale <= 2
        assert abs(other_steps - steps) <= 1


def test_mixed_bfloat16() -> None:
    def make() -> keras.Model:
        keras.config.set_dtype_policy("mixed_bfloat16")
        return regressor(optimizers.SGD(0.01))

    same(make, fit, history=comparing.BRAIN, weights=comparing.BRAIN)


@pytest.mark.thorough  # XLA compiles each step for seconds
@pytest.mark.parametrize(
    ("policy", "history", "weights"),
    [
        ("float32", comparing.HISTORY, comparing.WEIGHTS),
        ("mixed_float16", comparing.HALF, comparing.HALF),
        ("mixed_bfloat16", comparing.BRAIN, comparing.BRAIN),
    ],
)
def test_two_replicas_compiled_with_xla_equal_one(
    policy: str, history: float, weights: float
) -> None:
    def make() -> keras.Model:
        keras.config.set_dtype_policy(policy)
        model = keras.Sequential(
            [
                keras.Input((8,)),
                layers.Dense(16, "relu"),
                layers.Dense(16, "tanh"),
                layers.Dense(1, dtype="float32"),
            ]
        )
        model.compile(optimizers.SGD(0.05, momentum=0.9), "mse", jit_compile=True)
        return model

    one, two = (
        comparing.on_strategy(strategy, make, fit)
        for strategy in (comparing.alone(), comparing.mirrored(2))
    )
    comparing.assert_same(one, two, history=history, weights=weights)


def test_float64() -> None:
    def make() -> keras.Model:
        keras.config.set_dtype_policy("float64")
        return regressor()

    same(make, fit, history=1e-6)


def test_an_infinite_gradient_is_skipped_even_where_only_one_replica_has_it() -> None:
    def make() -> keras.Model:
        return regressor(optimizers.LossScaleOptimizer(optimizers.SGD(0.1), initial_scale=8.0))

    def use(model: keras.Model) -> Any:
        x = X[:30].copy()
        x[4] = np.inf
        for batch in (x, X[:30]):
            model.train_on_batch(batch, TARGETS[:30])
        optimizer = model.optimizer
        return [
            float(optimizer.dynamic_scale.numpy()),
            int(optimizer.inner_optimizer.iterations.numpy()),
        ]

    outcome = same(make, use, on=EVERY)
    assert outcome.result == [4.0, 1]
