"""Keras is what it was: tfdist changes one model, which shows nothing of it, while it traces."""

from __future__ import annotations

import contextlib
import inspect
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tests.training import comparing
from tests.training.models import FIT, LABELS, TARGETS, X, classifier, regressor, two_in_two_out
from tfdist.compat import patches


def surface() -> dict[tuple[str, ...], Any]:
    """Every function and class attribute of every module of Keras, and of tf.nn."""
    found: dict[tuple[str, ...], Any] = {}
    modules = [module for name, module in sys.modules.items() if name.startswith("keras.src")]
    for module in [*modules, tf.nn]:
        for name, value in list(vars(module).items()):
            if inspect.isfunction(value):
                found[module.__name__, name] = value
            elif inspect.isclass(value) and value.__module__.startswith("keras"):
                for attribute, member in list(vars(value).items()):
                    if callable(member) or isinstance(member, property):
                        found[module.__name__, name, attribute] = member
    found["all_reduce",] = tf.distribute.ReplicaContext.all_reduce
    return found


def train_plugged() -> None:
    with comparing.mirrored(3).scope():
        model = tfdist.plug(classifier(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)))
    model.fit(X, LABELS, validation_split=0.2, **FIT)
    model.predict(X, verbose=0)


def train_plain() -> tuple[Any, Any]:
    with comparing.seeded():
        model = classifier()
        return model.fit(X, LABELS, **FIT).history, model.get_weights()


def test_no_function_of_keras_is_another_one_after_fit() -> None:
    before = surface()
    train_plugged()
    after = surface()
    assert [key for key, value in before.items() if after.get(key) is not value] == []


def test_no_function_of_keras_is_another_one_after_a_step_that_failed() -> None:
    def broken(y: Any, predicted: Any) -> Any:
        points = patches.POINTS.values()
        if any(getattr(p.owner, p.name) is not p.original for p in points):
            replaced.append(True)
            raise LookupError
        return keras.losses.sparse_categorical_crossentropy(y, predicted)  # while it is built

    replaced: list[bool] = []
    before = surface()
    strategy = comparing.mirrored(2)
    with strategy.scope():
        model = tfdist.plug(classifier(loss=broken))
    with contextlib.suppress(LookupError):
        model.train_on_batch(X, LABELS)
    after = surface()
    assert [key for key, value in before.items() if after.get(key) is not value] == []
    assert replaced
    assert "_use_merge_call" not in vars(strategy.extended)


def test_a_plain_model_trains_bit_by_bit_as_before_anything_was_plugged() -> None:
    history, weights = train_plain()
    train_plugged()
    again, weights_again = train_plain()
    assert again == history
    for before, after in zip(weights, weights_again, strict=True):
        np.testing.assert_array_equal(after, before)


def test_a_plain_model_trains_inside_of_a_callback_of_a_plugged_one() -> None:
    class TrainAnother(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 0:
                seen.append(train_plain())

    seen: list[Any] = []
    history, _ = train_plain()
    with comparing.mirrored(2).scope():
        model = tfdist.plug(regressor())
    model.fit(X, TARGETS, batch_size=64, verbose=0, callbacks=[TrainAnother()])
    assert seen[0][0] == history


def test_a_second_model_of_the_same_strategy_that_is_not_plugged_stays_plain() -> None:
    with comparing.mirrored(2).scope():
        plugged, other = tfdist.plug(regressor()), regressor()
    assert plugged.fit.__wrapped__ is keras.Model.fit
    assert other.fit.__func__ is keras.Model.fit


def test_several_strategies_and_models_take_turns_in_one_process() -> None:
    models = []
    for replicas in (2, 3, 2):
        strategy = tfdist.strategy("mirrored", devices=[f"CPU:{i}" for i in range(replicas)])
        with comparing.seeded(), strategy.scope():
            models.append(tfdist.plug(regressor()))
    for model in models * 2:
        model.train_on_batch(X, TARGETS)
    losses = [model.evaluate(X, TARGETS, verbose=0) for model in models]
    np.testing.assert_allclose(losses, losses[0], rtol=comparing.HISTORY)


def test_a_plugged_model_keeps_its_class_and_its_summary() -> None:
    with comparing.mirrored(2).scope():
        model = two_in_two_out()
    kind, lines = type(model), []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    assert tfdist.plug(model) is model
    after: list[str] = []
    model.summary(print_fn=lambda line, **_: after.append(line))
    assert type(model) is kind
    assert isinstance(model, keras.Model)
    assert after == lines
    assert tfdist.plug(model) is model  # again is no mistake


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", "train_on_batch", "compile"])
def test_a_plugged_models_methods_still_carry_keras_name_and_help(method: str) -> None:
    with comparing.mirrored(2).scope():
        model = tfdist.plug(classifier())
    assert getattr(model, method).__name__ == method
    assert getattr(model, method).__doc__ == getattr(keras.Model, method).__doc__
