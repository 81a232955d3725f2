"""The speed that `ExamplesPerSecond` tells: which examples, in which seconds, shown where."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

import tfdist
from tests.multi_worker import programs
from tests.multi_worker.programs import LABELS, X
from tests.training.examples_counted import EXPECTED, SOME, examples_counted, expected
from tfdist.callbacks import ExamplesPerSecond
from tfdist.errors import PlugError


def made(strategy: tf.distribute.Strategy, **options: Any) -> keras.Model:
    keras.utils.set_random_seed(programs.SEED)
    with strategy.scope():
        model = programs.sgd()
    return tfdist.plug(model, **options)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes whenever the callback asks."""
    seconds = itertools.count()
    monkeypatch.setattr(
        "tfdist.callbacks.examples_per_second.perf_counter", lambda: float(next(seconds))
    )


EVERY_BATCH = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)


@pytest.mark.parametrize("devices", [["CPU:0"], ["CPU:0", "CPU:1"]], ids=["one", "two"])
def test_examples_are_counted_whatever_the_data(devices: list[str]) -> None:
    model = made(tf.distribute.MirroredStrategy(devices))
    assert examples_counted(model) == expected(EXPECTED)


def test_virtual_replicas_are_counted_once() -> None:
    model = made(tf.distribute.OneDeviceStrategy("CPU:0"), virtual_replicas=4)
    assert examples_counted(model, *SOME[:-1]) == expected(SOME[:-1])


def test_the_speed_is_of_the_steps_alone(clock: None) -> None:
    """Four steps, a second each; validation, in which the clock stands, is not counted."""
    model = made(tf.distribute.OneDeviceStrategy("CPU:0"))
    history = model.fit(
        X,
        LABELS,
        32,
        epochs=3,
        verbose=0,
        validation_data=(X, LABELS),
        callbacks=[ExamplesPerSecond("speed"), EVERY_BATCH],
    ).history
    assert history["speed"] == [105 / 4] * 3
    assert "val_speed" not in history


def test_it_is_in_the_bar_and_in_what_comes_after_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clock: None
) -> None:
    model = made(tf.distribute.OneDeviceStrategy("CPU:0"))
    file = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    model.fit(X, LABELS, 32, verbose=2, callbacks=[ExamplesPerSecond(), EVERY_BATCH, file])
    assert capsys.readouterr().out.count("examples_per_second: 26.25") == 1
    assert "examples_per_second" in (tmp_path / "log.csv").read_text().splitlines()[0]


def test_a_resumed_epoch_has_the_speed_since(tmp_path: Path, clock: None) -> None:
    class Ends(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 2:
                raise KeyboardInterrupt

    def fit(*callbacks: Any) -> Any:
        keep = tfdist.callbacks.Checkpoint(tmp_path, every_steps=1, save_on_background=False)
        model = made(tf.distribute.OneDeviceStrategy("CPU:0"))
        return model.fit(
            X, LABELS, 32, epochs=2, verbose=0, callbacks=[keep, ExamplesPerSecond(), *callbacks]
        )

    with pytest.raises(KeyboardInterrupt):
        fit(Ends())
    # Two steps were kept: 32 and 9 examples are left of the first epoch.
    assert fit(EVERY_BATCH).history["examples_per_second"] == [41 / 2, 105 / 4]


def test_a_model_that_is_not_plugged_is_refused() -> None:
    with pytest.raises(PlugError, match=r"call tfdist\.plug\(model\) before fit"):
        programs.sgd().fit(X, LABELS, verbose=0, callbacks=[ExamplesPerSecond()])
