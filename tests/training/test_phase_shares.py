"""The shares of an epoch's time, wherever a model is trained in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist.errors import PlugError
from tfdist.progress import PHASES
from tfdist.strategies import fit_clock, step_clock

x = np.ones((64, 4), "float32")
OPTIONS: dict[str, dict[str, Any]] = {
    "pipeline": {"microbatches": 2},  # a stage on each of the three devices
    "mirrored": {"devices": ["CPU:0", "CPU:1"]},
}
APART = {f"phase_{name}" for name in PHASES}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    keras.utils.clear_session()


def model(kind: str = "one_device", **compiled: Any) -> keras.Model:
    strategy = tfdist.strategy(kind, **OPTIONS.get(kind, {}))
    with strategy.scope():
        layers = [keras.layers.Dense(width) for width in (4, 4, 1)]
        made = keras.Sequential([keras.Input((4,)), *layers])
        made.compile("sgd", "mse", **compiled)
    return tfdist.plug(made)


def shares(trained: keras.Model, *callbacks: keras.callbacks.Callback, data: Any = None) -> Any:
    """The shares of each of two epochs."""
    given = (x, x[:, :1]) if data is None else (data,)
    every = [*callbacks, tfdist.callbacks.Phases()]
    history = trained.fit(*given, batch_size=None if data is not None else 8, epochs=2, verbose=0,
                          callbacks=every).history  # fmt: skip
    return {name: values for name, values in history.items() if name.startswith("phase_")}


def unknown_length() -> tf.data.Dataset:
    data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(8)
    return data.filter(lambda a, b: True)


@pytest.mark.parametrize(
    ("kind", "compiled", "data", "missing"),
    [
        pytest.param("one_device", {}, None, set(), id="one device"),
        pytest.param("one_device", {}, unknown_length, set(), id="of unknown length"),
        pytest.param("mirrored", {}, None, {"phase_exchange"}, id="two devices"),
        pytest.param("one_device", {"run_eagerly": True}, None, {"phase_input"}, id="eagerly"),
        pytest.param("pipeline", {}, None, {"phase_exchange"}, id="pipeline"),
    ],
)
def test_what_is_told_apart_adds_up_to_one(
    kind: str, compiled: dict[str, Any], data: Callable[[], Any] | None, missing: set[str]
) -> None:
    found = shares(model(kind, **compiled), data=data and data())
    assert set(found) == APART - missing
    for epoch in range(2):
        assert sum(values[epoch] for values in found.values()) == pytest.approx(1)
        assert min(values[epoch] for values in found.values()) >= 0


class Evaluates(keras.callbacks.Callback):
    """Evaluates, predicts and trains another model, which takes its time."""

    def __init__(self, other: keras.Model) -> None:
        super().__init__()
        self._other = other
        self.seconds = 0.0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        began = time.monotonic()
        self.model.evaluate(x, x[:, :1], batch_size=8, verbose=0)
        self._other.fit(x, x[:, :1], batch_size=8, verbose=0)
        self._other.predict(x, verbose=0)
        self.seconds += time.monotonic() - began


def test_what_a_callback_runs_is_the_callbacks_own() -> None:
    evaluates = Evaluates(model())
    phases = tfdist.callbacks.Phases()
    trained = model()
    trained.fit(x, x[:, :1], batch_size=8, verbose=0, callbacks=[evaluates, phases])
    assert phases.seconds["callbacks"] >= evaluates.seconds


def test_a_model_that_has_trained_without_it_is_measured_from_now_on() -> None:
    trained = model()
    trained.fit(x, x[:, :1], verbose=0)
    assert "phase_input" in shares(trained)


def test_saving_by_whomever_is_saving(tmp_path: Any) -> None:
    keeper = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    phases = tfdist.callbacks.Phases()
    model().fit(x, x[:, :1], verbose=0, callbacks=[keeper, phases])
    assert phases.seconds["save"] > 0


def test_after_the_last_epoch_the_seconds_stay() -> None:
    phases = tfdist.callbacks.Phases()
    keep = [phases]
    model().fit(x, x[:, :1], verbose=0, callbacks=keep)
    found = phases.seconds
    time.sleep(0.01)
    assert phases.seconds == found
    assert fit_clock.CLOCK.phase is None


def test_a_model_that_is_not_plugged_is_refused() -> None:
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    plain.compile("sgd", "mse")
    with pytest.raises(PlugError, match=r"not plugged.*call tfdist\.plug"):
        plain.fit(x, x[:, :1], verbose=0, callbacks=[tfdist.callbacks.Phases()])


def test_an_error_in_a_fit_leaves_no_clock_running() -> None:
    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise KeyError("mine")

    trained = model()
    with pytest.raises(KeyError, match="mine"):
        trained.fit(x, x[:, :1], verbose=0, callbacks=[Fails()])
    assert fit_clock.CLOCK.phase is None
    assert "phase_compute" in shares(trained)


def test_an_error_in_the_input_leaves_the_clock_at_rest() -> None:
    """The batch that was waited for never came: later ones are not taken for it."""

    def fails(n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        tf.debugging.assert_less(n, tf.constant(3, tf.int64))
        return tf.ones((8, 4)), tf.ones((8, 1))

    trained = model()
    broken = tf.data.Dataset.range(8).map(fails)
    with pytest.raises(tf.errors.InvalidArgumentError):
        shares(trained, data=broken)
    assert step_clock.ticks() % 2 == 0
    waited = shares(trained)["phase_input"]
    assert all(0 <= share < 0.9 for share in waited)
