"""What callbacks change while `fit` runs, and what is changed between two of them, as in Keras."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from tests.training import comparing
from tests.training.comparing import on_replicas, same
from tests.training.models import FIT, LABELS, X, classifier
from tfdist.errors import PlugError

HOOKS = ("on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_test_begin", "on_epoch_end")
SOME_HOOKS = HOOKS if comparing.THOROUGH else HOOKS[1:3]


def once(hook: str, do: Callable[[keras.Model], Any], number: int = 0) -> keras.callbacks.Callback:
    """A callback that does something at the hook's first call, or at a later one."""
    calls = iter(range(100))

    def called(self: keras.callbacks.Callback, *args: Any, **kwargs: Any) -> None:
        if next(calls) == number:
            do(self.model)

    callback: keras.callbacks.Callback = type("Once", (keras.callbacks.Callback,), {hook: called})()
    return callback


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, **settings: Any) -> Any:
    chosen = {**FIT, "epochs": 3, "shuffle": False, **settings}
    return model.fit(X, LABELS, callbacks=list(callbacks), **chosen).history


def freeze(model: keras.Model) -> None:
    model.layers[0].trainable = False


def unfreeze(model: keras.Model) -> None:
    model.layers[0].trainable = True


def freeze_from_now(model: keras.Model) -> None:
    freeze(model)
    model.make_train_function(force=True)


def replace_optimizer(model: keras.Model) -> None:
    with model.distribute_strategy.scope():
        model.optimizer = keras.optimizers.SGD(1.0)
        model.optimizer.build(model.trainable_variables)


def compile_anew(model: keras.Model) -> None:
    with model.distribute_strategy.scope():
        optimizer = keras.optimizers.SGD(0.2)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])


def frozen() -> keras.Model:
    model = classifier()
    freeze(model)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize("hook", SOME_HOOKS)
@pytest.mark.parametrize("change", [freeze, freeze_from_now, replace_optimizer])
def test_a_running_fit_takes_up_what_plain_keras_does(hook: str, change: Any) -> None:
    def use(model: keras.Model) -> Any:
        settings = {"validation_data": (X, LABELS)} if hook == "on_test_begin" else {}
        return fit(model, once(hook, change), **settings)

    same(classifier, use)


def test_unfreezing_in_a_running_fit_waits_for_compile() -> None:
    def use(model: keras.Model) -> Any:
        first = fit(model, once("on_epoch_begin", unfreeze, 1))
        compile_anew(model)
        return first, fit(model)

    same(frozen, use)


@pytest.mark.parametrize(
    "changes",
    [
        (freeze,),
        (freeze, compile_anew),
        (freeze, compile_anew, unfreeze),
        (freeze, compile_anew, unfreeze, compile_anew),
        (replace_optimizer,),
        (freeze_from_now,),
    ],
    ids=lambda changes: ", ".join(change.__name__ for change in changes),
)
def test_what_changes_between_two_fits_counts_as_in_plain_keras(changes: Any) -> None:
    def use(model: keras.Model) -> Any:
        histories = [fit(model, epochs=1)]
        for change in changes:
            change(model)
            histories.append(fit(model, epochs=1))
        return histories

    same(classifier, use)


@pytest.mark.parametrize("hook", SOME_HOOKS)
def test_compile_in_a_running_fit_is_refused(hook: str) -> None:
    def use(model: keras.Model) -> Any:
        with pytest.raises(PlugError, match=r"a callback has compiled the model while .* running"):
            fit(model, once(hook, compile_anew), validation_data=(X, LABELS))
        return fit(model)["loss"]

    on_replicas(2, classifier, use)


def test_compile_with_a_fit_of_its_own_in_a_running_fit_is_refused() -> None:
    def compile_and_fit(model: keras.Model) -> None:
        compile_anew(model)
        fit(model, epochs=1)

    def use(model: keras.Model) -> Any:
        with pytest.raises(PlugError, match="a callback has compiled the model while fit"):
            fit(model, once("on_epoch_begin", compile_and_fit, 1))

    on_replicas(2, classifier, use)


def test_compile_at_the_very_end_counts_for_the_next_fit() -> None:
    def use(model: keras.Model) -> Any:
        return fit(model, once("on_epoch_end", compile_anew, 2)), fit(model)

    same(classifier, use)


# NumPy's of Keras' own variables, in plain Keras too.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_variables_are_read_as_single_numbers() -> None:
    def use(model: keras.Model) -> Any:
        seen: list[Any] = []

        def read(model: keras.Model) -> None:
            iterations, rate = model.optimizer.iterations, model.optimizer.learning_rate
            kernel, total = model.layers[0].kernel, model.metrics[0].variables[0]
            seen.extend([int(iterations), float(iterations), float(rate), int(rate.value)])
            seen.extend([np.array(rate), np.asarray(kernel), np.array(kernel.value)])
            seen.extend([float(total), np.array(total.value), np.array(total)])
            seen.extend(
                [math.sqrt(rate), f"{float(rate):.3f}", repr(rate), complex(rate.value).real]
            )
            seen.extend([np.asarray(rate + 1), keras.ops.convert_to_numpy(kernel)])

        fit(model, once("on_epoch_end", read, 1))
        return seen

    outcome = same(classifier, use, on=(2, 3))
    assert outcome.result[0] == 8


def test_fit_and_all_else_in_the_scope_are_what_they_are_outside(tmp_path: Any) -> None:
    def use(model: keras.Model) -> Any:
        with model.distribute_strategy.scope():
            saving = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
            history = fit(model, saving, validation_split=0.2)
            model.save(tmp_path / "model.keras")
            model.save_weights(tmp_path / "model.weights.h5")
            model.load_weights(tmp_path / "model.weights.h5")
            score = model.evaluate(X, LABELS, verbose=0)
            return history, score, model.predict(X, verbose=0)

    same(classifier, use)
    assert (tmp_path / "3.keras").exists()
