"""A program that was started again after its `fit` had ended goes on as if it had not been."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tfdist
from tests.training.test_resuming_in_an_epoch import Interrupt, Interrupted, X, Y

EPOCHS = 12


def program(folder: Path, epochs: int = EPOCHS, patience: int = 2, *others: Any) -> dict[str, Any]:
    """Trains until the validation's loss gets worse, and puts the best weights back."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(32, "tanh"), keras.layers.Dense(3, "softmax")]
    )
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    tfdist.plug(model)
    history = model.fit(
        X[:60],
        Y[:60],
        validation_data=(X[60:], Y[60:]),
        epochs=epochs,
        batch_size=20,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True),
            tfdist.callbacks.Checkpoint(folder),
            *others,
        ],
    )
    return {
        "weights": [weight.tolist() for weight in model.get_weights()],
        "history": history.history,
        "epochs": history.epoch,
        "drawn": np.random.random(),
    }


@pytest.mark.parametrize("patience", [2, 50], ids=["stopped early", "not stopped"])
def test_what_has_ended_is_what_it_was(
    patience: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = program(tmp_path, EPOCHS, patience)
    assert (len(first["epochs"]) < EPOCHS) == (patience == 2)
    caplog.clear()
    assert program(tmp_path, EPOCHS, patience) == first
    assert f"fit(epochs={EPOCHS}) has no epoch left" in caplog.text
    stopped = "as a callback had stopped it after epoch"
    assert (stopped in caplog.text) == (patience == 2)


def test_more_epochs_are_trained_with_callbacks_that_begin_anew(tmp_path: Path) -> None:
    first = program(tmp_path)
    more = program(tmp_path, EPOCHS + 4)
    assert more["epochs"][0] == len(first["epochs"])
    assert len(more["epochs"]) > 1


def test_batches_are_counted_on(tmp_path: Path) -> None:
    """By callbacks of Keras that save, or log, every so many of them."""

    def run(name: str, *interrupt: Any) -> Any:
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        saved = tmp_path / name / "models"
        callbacks = [
            keras.callbacks.ModelCheckpoint(f"{saved}/{{epoch}}-{{batch}}.keras", save_freq=5),
            board := keras.callbacks.TensorBoard(tmp_path / name / "logs", update_freq=1),
            tfdist.callbacks.Checkpoint(tmp_path / name / "kept", every_steps=2),
            *interrupt,
        ]
        tfdist.plug(model)
        model.fit(X, Y, batch_size=15, epochs=3, verbose=0, callbacks=callbacks)
        return sorted(path.name for path in saved.iterdir()), board._global_train_batch

    whole = run("whole")
    with pytest.raises(Interrupted):
        run("parts", Interrupt(1, 3))
    assert run("parts") == whole


def test_a_log_that_is_appended_to_has_each_epoch_once(tmp_path: Path) -> None:
    """Also where a run was killed between an epoch's row and its checkpoint, or saves seldom."""
    log = tmp_path / "log.csv"

    class Dies(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 3:
                raise Interrupted

    def run(name: str, epochs: int, *dies: Any) -> None:
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        rows = keras.callbacks.CSVLogger(log, append=True)
        kept = tfdist.callbacks.Checkpoint(tmp_path / name, every=2)
        tfdist.plug(model)
        try:
            model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[rows, kept, *dies])
        finally:
            rows.csv_file.close()

    def program(*dies: Any) -> None:
        run("first", 2)
        run("second", 5, *dies)

    program()
    whole = log.read_text()
    assert [line.partition(",")[0] for line in whole.splitlines()[1:]] == list("0101234")
    log.unlink()
    for name in ("first", "second"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(Interrupted):
        program(Dies())
    assert log.read_text().splitlines()[-1].startswith("3,")
    program()
    assert log.read_text() == whole
