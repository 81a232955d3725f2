"""A run that goes on with other losses, metrics or rates than before is told, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest

import tfdist
from tests.training.test_resuming_in_an_epoch import Interrupt, Interrupted, X, Y
from tfdist.errors import CheckpointError


def program(
    folder: Path, *interrupt: Any, loss: Any = "mse", metrics: Any = (), rate: Any = 0.1
) -> Any:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), loss, metrics=list(metrics))
    tfdist.plug(model)
    kept = tfdist.callbacks.Checkpoint(folder, every_steps=1)
    history = model.fit(
        X, Y, epochs=3, batch_size=20, shuffle=False, verbose=0, callbacks=[kept, *interrupt]
    )
    return history.history


def stop(folder: Path, **compiled: Any) -> None:
    with pytest.raises(Interrupted):
        program(folder, Interrupt(1, 2), **compiled)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            {"metrics": ["mae", "mse"]},
            {"metrics": ["mse", "mae"]},
            "metrics loss, mean_absolute_error, mean_squared_error, and the model is compiled with",
        ),
        ({"metrics": ["mae"]}, {"metrics": ["mse"]}, "metrics loss, mean_absolute_error, and"),
        ({"metrics": ["mae"]}, {}, "metrics loss, mean_absolute_error, and"),
        ({}, {"loss": "mae"}, "losses mean_squared_error, and .* with mean_absolute_error"),
    ],
    ids=["another order", "another metric", "none", "another loss"],
)
def test_what_would_count_something_else_is_refused_in_an_epoch(
    before: dict[str, Any], after: dict[str, Any], told: str, tmp_path: Path
) -> None:
    stop(tmp_path, **before)
    with pytest.raises(CheckpointError, match=f"middle of an epoch with the {told}"):
        program(tmp_path, **after)


def test_the_same_by_another_name_goes_on(tmp_path: Path) -> None:
    undisturbed = program(
        tmp_path / "whole", loss="mse", metrics=[keras.metrics.AUC(from_logits=True)]
    )
    stop(tmp_path / "cut", loss="mse", metrics=[keras.metrics.AUC(from_logits=True)])
    loss = keras.losses.MeanSquaredError()
    found = program(tmp_path / "cut", loss=loss, metrics=[keras.metrics.AUC(from_logits=True)])
    assert found["loss"] == undisturbed["loss"]  # Keras calls the second AUC of a process auc_1


def test_another_rate_is_told_of_once_and_the_old_one_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = program(tmp_path / "whole")
    stop(tmp_path / "cut")
    assert program(tmp_path / "cut", rate=0.5) == undisturbed
    told = [one for one in caplog.messages if "learning rate" in one]
    assert len(told) == 1
    assert "began with a learning rate of 0.1, and the model is compiled with 0.5 now" in told[0]


def test_a_rate_that_a_callback_sets_is_no_other_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def halved() -> Any:
        return keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / 2**epoch)

    def run(folder: Path, *more: Any) -> Any:
        return program(folder, halved(), *more)

    undisturbed = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", Interrupt(1, 2))
    assert run(tmp_path / "cut") == undisturbed
    assert "learning rate" not in caplog.text


def test_another_model_is_refused_in_a_few_words(tmp_path: Path) -> None:
    """Keras shows all of a weight's numbers, and the objects of Python."""

    def run(units: int) -> None:
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(units)])
        model.compile("sgd", "mse")
        kept = tfdist.callbacks.Checkpoint(tmp_path)
        tfdist.plug(model).fit(X, X[:, :units], verbose=0, callbacks=[kept])

    run(3)
    with pytest.raises(CheckpointError, match="as it is of another one or damaged") as error:
        run(2)
    said = str(error.value)
    assert not [one for one in ("\n", "[[", "List of objects") if one in said]
    assert all(one in said for one in ("dense", "shape=(8, 2)", "shape=(8, 3)"))
