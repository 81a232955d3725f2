"""`ScaledWarmup`: the rates of Goyal et al., saved and loaded, resumed, and refused where wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

import tfdist
from tests.multi_worker import programs
from tests.multi_worker.programs import LABELS, X
from tfdist import ScaledWarmup
from tfdist.errors import StrategyError


def rates(schedule: ScaledWarmup, steps: int) -> list[float]:
    return [float(schedule(step)) for step in range(steps)]


def test_the_rate_grows_in_equal_steps_and_stays() -> None:
    grown = rates(ScaledWarmup(0.1, 4, scale=8), 7)
    np.testing.assert_allclose(grown, [0.1, 0.275, 0.45, 0.625, 0.8, 0.8, 0.8], rtol=1e-6)


def test_without_a_warm_up_it_is_the_scaled_one_at_once() -> None:
    np.testing.assert_allclose(rates(ScaledWarmup(0.1, 0, scale=8), 2), [0.8, 0.8], rtol=1e-6)


def test_with_one_replica_it_is_the_base() -> None:
    base = optimizers.schedules.CosineDecay(0.1, 10)
    expected = [float(base(step)) for step in range(12)]
    np.testing.assert_allclose(rates(ScaledWarmup(base, 4, scale=1), 12), expected, rtol=1e-6)


def test_a_schedule_counts_from_the_beginning() -> None:
    """The setting of the paper: 5 epochs of warm-up, a tenth at epochs 30, 60 and 80."""
    milestones = optimizers.schedules.PiecewiseConstantDecay([30, 60, 80], [1.0, 0.1, 0.01, 1e-3])
    found = rates(ScaledWarmup(milestones, 5, scale=32), 91)
    expected = [1, 7.2, 13.4, 19.6, 25.8, 32]
    np.testing.assert_allclose(found[:6], expected, rtol=1e-6)
    np.testing.assert_allclose([found[30], found[31], found[61], found[90]], [32, 3.2, 0.32, 0.032])


def test_the_replicas_of_the_scope_are_counted() -> None:
    for devices in (["CPU:0"], ["CPU:0", "CPU:1"], ["CPU:0", "CPU:1", "CPU:2"]):
        with tf.distribute.MirroredStrategy(devices).scope():
            assert ScaledWarmup(0.1, 5).scale == len(devices)


@pytest.mark.parametrize("base", [0.1, optimizers.schedules.CosineDecay(0.1, 10)])
def test_a_saved_model_has_it(base: Any, tmp_path: Path) -> None:
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = programs.classifier(optimizers.SGD(ScaledWarmup(base, 4)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    config = loaded.optimizer.get_config()["learning_rate"]
    schedule = keras.optimizers.schedules.deserialize(config)
    assert isinstance(schedule, ScaledWarmup)
    assert schedule.scale == 2
    assert rates(schedule, 9) == rates(ScaledWarmup(base, 4, scale=2), 9)


def trained(epochs: int, folder: Path, every: int | None = None) -> keras.Model:
    keras.utils.set_random_seed(programs.SEED)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = programs.classifier(optimizers.SGD(ScaledWarmup(0.05, 6), momentum=0.9))
    tfdist.plug(model)
    keep = tfdist.callbacks.Checkpoint(folder, every_steps=every)
    model.fit(X, LABELS, 32, epochs=epochs, verbose=0, callbacks=[keep])
    return model


def test_a_resumed_job_goes_on_in_the_warm_up(tmp_path: Path) -> None:
    whole = trained(2, tmp_path / "whole")
    trained(1, tmp_path / "parts")
    resumed = trained(2, tmp_path / "parts")
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert float(resumed.optimizer.learning_rate) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base": 0.0}, r"base=0\.0: give a rate above 0, or a schedule of keras\.optimizers"),
        ({"base": "fast"}, "base='fast': give a rate above 0"),
        ({"base": True}, "base=True: give"),
        ({"base": float("nan")}, "base=nan: give"),
        ({"warmup_steps": -1}, "warmup_steps=-1: give a number of steps, 0 or more"),
        ({"warmup_steps": 2.5}, r"warmup_steps=2\.5: give"),
        ({"warmup_steps": "5"}, "warmup_steps='5': give"),
        ({"warmup_steps": None}, "warmup_steps=None: give"),
        ({"scale": 0}, "scale=0: give a number above 0, or None for the replicas in sync"),
        ({"scale": float("inf")}, "scale=inf: give"),
    ],
)
def test_wrong_arguments_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScaledWarmup(**{"base": 0.1, "warmup_steps": 5, "scale": 2, **arguments})


def test_replicas_that_nobody_knows_are_not_guessed() -> None:
    with pytest.raises(StrategyError, match="outside of a strategy's scope, whose replicas it"):
        ScaledWarmup(0.1, 5)
