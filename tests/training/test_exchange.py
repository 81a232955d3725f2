"""How replicas exchange gradients: narrower, or weights now and then."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import tfdist
from tests.training.comparing import HISTORY, SEED, mirrored
from tests.training.models import TARGETS, X
from tfdist.errors import PlugError
from tfdist.training.plug_options import TrainingOptions
from tfdist.training.synchronous import exchange, synchronous


def train(epochs: int = 3, optimizer: Any = None, **options: Any) -> keras.Model:
    """Trains on two replicas with even shares; returns the model."""
    keras.utils.set_random_seed(SEED)
    with mirrored(2).scope():
        model = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(1)]
        )
        model.compile(optimizer or keras.optimizers.SGD(0.1), "mse")
    tfdist.plug(model, **options)
    model.fit(X[:96], TARGETS[:96], batch_size=32, epochs=epochs, shuffle=False, verbose=0)
    return model


def losses(model: keras.Model) -> np.ndarray:
    return np.asarray(model.history.history["loss"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gradient_dtype": "int8"}, "give 'bfloat16', 'float16' or None"),
        ({"error_feedback": True}, "without a gradient_dtype"),
        ({"local_steps": 0}, "at least 1"),
        ({"local_steps": True}, "at least 1"),
        ({"local_steps": 2, "gradient_dtype": "bfloat16"}, "choose one of the two"),
        ({"outer_momentum": 1.0}, "momentum from 0 to below 1"),
        ({"gradient_type": "bfloat16"}, "did you mean 'gradient_dtype'"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(PlugError, match=says):
        TrainingOptions.from_keywords(options)


def test_a_model_is_plugged_with_one_set_of_options() -> None:
    model = train(epochs=1, gradient_dtype="bfloat16")
    assert tfdist.plug(model) is model
    with pytest.raises(PlugError, match="plugged already, with other options"):
        tfdist.plug(model, local_steps=4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrower_gradients_come_close_but_are_not_the_same(dtype: str) -> None:
    full, narrow = losses(train()), losses(train(gradient_dtype=dtype))
    # bfloat16 keeps 8 bits of a gradient: what it moves, over 9 steps, is off by about 2**-9.
    np.testing.assert_allclose(narrow, full, rtol=2e-3)
    assert (narrow != full).any()


def test_error_feedback_keeps_gradients_that_rounding_would_lose() -> None:
    # 1 + 2**-9 rounds to 1 in bfloat16, at every step: the weight falls behind. With feedback what
    # was lost comes with a later step.
    def weight(**options: Any) -> float:
        with mirrored(2).scope():
            layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
            model = keras.Sequential([keras.Input((1,)), layer])
            model.compile(keras.optimizers.SGD(1.0), loss=lambda y, p: p)
        tfdist.plug(model, **options)
        x = np.full((64, 1), 2.0 + 2.0**-8, "float32")  # each of two replicas sends 1 + 2**-9
        model.fit(x, x, batch_size=2, shuffle=False, verbose=0)
        return float(model.get_weights()[0][0, 0])

    exact = weight()
    rounded = weight(gradient_dtype="bfloat16")
    fed_back = weight(gradient_dtype="bfloat16", error_feedback=True)
    assert abs(rounded - exact) > 0.1
    assert abs(fed_back - exact) < 0.02


def test_one_local_step_with_plain_averaging_is_the_ordinary_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ordinary = train()
    once = TrainingOptions(local_steps=1, outer_learning_rate=1.0, outer_momentum=0.0)
    monkeypatch.setattr(
        synchronous,
        "make_exchange",
        lambda _, model, strategy: exchange.LocalSteps(once, model, strategy),
    )
    averaged = train()
    np.testing.assert_allclose(losses(averaged), losses(ordinary), rtol=HISTORY)
    for a, b in zip(averaged.get_weights(), ordinary.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_local_steps_are_those_of_each_replica_alone_then_averaged() -> None:
    both = train(epochs=1, local_steps=3, outer_learning_rate=1.0, outer_momentum=0.0)
    alone = []
    for replica in range(2):
        keras.utils.set_random_seed(SEED)
        model = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(1)]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse")
        rows = np.concatenate([np.arange(i, i + 16) for i in range(16 * replica, 96, 32)])
        model.fit(X[rows], TARGETS[rows], batch_size=16, shuffle=False, verbose=0)
        alone.append(model.get_weights())
    for weight, *own in zip(both.get_weights(), *alone, strict=True):
        np.testing.assert_allclose(weight, np.mean(own, axis=0), atol=1e-6)


def test_replicas_agree_after_an_epoch_that_local_steps_do_not_divide() -> None:
    model = train(epochs=1, local_steps=2)  # three steps an epoch
    for variable in model.trainable_variables:
        copies = mirrored(2).experimental_local_results(variable.value)
        np.testing.assert_array_equal(*[copy.numpy() for copy in copies])


def test_weights_that_the_user_sets_between_two_fits_are_kept() -> None:
    model = train(epochs=1, local_steps=3, outer_learning_rate=1.0, outer_momentum=0.0)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    model.optimizer.learning_rate = 0.0
    model.fit(X[:96], TARGETS[:96], batch_size=32, shuffle=False, verbose=0)
    for weight in model.get_weights():
        np.testing.assert_array_equal(weight, 0.0)


def test_local_steps_still_learn() -> None:
    history = losses(train(epochs=10, local_steps=3))
    assert history[-1] < 0.7 * history[0]


def test_sparse_gradients_are_sent_as_they_are() -> None:
    def weights(**options: Any) -> list[np.ndarray]:
        keras.utils.set_random_seed(SEED)
        with mirrored(2).scope():
            model = keras.Sequential(
                [
                    keras.Input((4,), dtype="int32"),
                    keras.layers.Embedding(50, 4),
                    keras.layers.Flatten(),
                    keras.layers.Dense(1),
                ]
            )
            model.compile(keras.optimizers.SGD(0.1), "mse")
        tfdist.plug(model, **options)
        ids = np.arange(64).reshape(16, 4) % 40
        model.fit(ids, ids.sum(1) / 100.0, batch_size=8, shuffle=False, verbose=0)
        result: list[np.ndarray] = model.get_weights()
        return result

    full, narrow = weights(), weights(gradient_dtype="bfloat16")
    np.testing.assert_allclose(narrow[0], full[0], atol=5e-3)
    np.testing.assert_array_equal(narrow[0][40:], full[0][40:])  # rows that nobody looked up


@pytest.mark.parametrize("own_step", [False, True])
def test_compiling_with_xla_changes_no_result(own_step: bool) -> None:
    class OwnStep(keras.Sequential):
        def train_step(self, data: Any) -> Any:
            return super().train_step(data)

    def fit(jit: bool) -> Any:
        keras.utils.set_random_seed(SEED)
        with mirrored(2).scope():
            kind = OwnStep if own_step else keras.Sequential
            model = kind([keras.Input((8,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
            model.compile(keras.optimizers.Adam(0.01, clipnorm=0.5), "mse", jit_compile=jit)
        tfdist.plug(model)
        return model.fit(X, TARGETS, batch_size=32, epochs=2, verbose=0).history["loss"]

    if own_step:
        with pytest.raises(PlugError, match=r"OwnStep has a train_step of its own"):
            fit(jit=True)
    else:
        np.testing.assert_allclose(fit(jit=True), fit(jit=False), rtol=HISTORY)
