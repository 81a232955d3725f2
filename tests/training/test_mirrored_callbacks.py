"""Keras' callbacks see on logical CPUs what they see in one process, and do the same."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import callbacks

import tfdist
from tests.training import comparing
from tests.training.comparing import EVERY, mirrored, on_replicas, same
from tests.training.models import FIT, LABELS, History, X, classifier

LONG = {**FIT, "epochs": 12}


def fit(model: keras.Model, *given: Any, **settings: Any) -> Any:
    settings.setdefault("validation_split", 0.2)
    return model.fit(X, LABELS, callbacks=list(given), **{**FIT, **settings}).history


def test_every_hook_is_called_for_every_batch_with_the_same_logs() -> None:
    def use(model: keras.Model) -> Any:
        history = History()
        fit(model, history)
        return history.calls

    outcome = same(classifier, use, on=EVERY)
    assert [call[0] for call in outcome.result].count("batch end") == 6


def test_every_hook_is_called_once_an_execution_of_several_steps() -> None:
    def use(model: keras.Model) -> Any:
        history = History()
        fit(model, history, batch_size=10)
        return history.calls

    same(lambda: classifier(steps_per_execution=3), use)


def test_lambdas_see_epochs_and_batches() -> None:
    def use(model: keras.Model) -> Any:
        seen: list[Any] = []
        fit(
            model,
            callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: seen.append((epoch, dict(logs))),
                on_train_batch_end=lambda batch, logs: seen.append((batch, dict(logs))),
            ),
        )
        return seen

    same(classifier, use)


def test_early_stopping_stops_at_the_same_epoch_and_restores_the_same_weights() -> None:
    def use(model: keras.Model) -> Any:
        stop = callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
        history = fit(model, stop, epochs=30)
        return history, stop.stopped_epoch, stop.best_epoch

    outcome = same(lambda: classifier(keras.optimizers.SGD(2.0)), use, on=EVERY)
    assert 0 < outcome.result[1] < 29


def test_the_learning_rate_falls_on_the_same_plateaus() -> None:
    def use(model: keras.Model) -> Any:
        plateau = callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1)
        return fit(model, plateau, epochs=8)

    outcome = same(lambda: classifier(keras.optimizers.SGD(2.0)), use)
    assert len(set(outcome.result["learning_rate"])) > 1


def test_the_learning_rate_follows_a_schedule_by_epochs() -> None:
    def use(model: keras.Model) -> Any:
        return fit(model, callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5))

    same(classifier, use)


def test_a_nan_ends_training() -> None:
    poisoned = X.copy()
    poisoned[70] = np.nan  # in the third of four batches

    def use(model: keras.Model) -> Any:
        guard = callbacks.TerminateOnNaN()
        settings = {**FIT, "epochs": 3, "shuffle": False}
        model.fit(poisoned, LABELS, callbacks=[guard], **settings)
        return len(model.history.epoch), model.optimizer.iterations.numpy()

    epochs, steps = comparing.in_plain_keras(classifier, use).result
    assert (epochs, steps) == (1, 3)
    epochs, steps = on_replicas(3, classifier, use).result
    assert epochs == 1
    assert 3 <= steps <= 4  # up to the end of its chunk


def test_a_callback_that_asks_to_stop_in_the_middle_of_an_epoch() -> None:
    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                self.model.stop_training = True

    def use(model: keras.Model) -> Any:
        return fit(model, Stop(), epochs=4), model.optimizer.iterations.numpy()

    outcome = same(classifier, use)
    assert outcome.result[1] == 2


def test_csv_files_are_equal(tmp_path: Path) -> None:
    def use(model: keras.Model) -> Any:
        path = tmp_path / "log.csv"
        fit(model, callbacks.CSVLogger(str(path)))
        with path.open() as file:
            rows = list(csv.reader(file))
        return rows[0], [[float(cell) for cell in row] for row in rows[1:]]

    same(classifier, use)


@pytest.mark.parametrize("update_freq", ["epoch", "batch"])
def test_tensorboard_writes_its_summaries(tmp_path: Path, update_freq: str) -> None:
    def use(model: keras.Model) -> Any:
        board = callbacks.TensorBoard(str(tmp_path), histogram_freq=1, update_freq=update_freq)
        return fit(model, board)

    on_replicas(2, classifier, use)
    assert list(tmp_path.glob("train/events*"))
    assert list(tmp_path.glob("validation/events*"))


def test_model_checkpoints_load_in_plain_keras(tmp_path: Path) -> None:
    def use(model: keras.Model) -> Any:
        path = tmp_path / "best.keras"
        path.unlink(missing_ok=True)
        saving = callbacks.ModelCheckpoint(str(path), monitor="val_loss", save_best_only=True)
        weights = callbacks.ModelCheckpoint(
            str(tmp_path / "{epoch}.weights.h5"), save_weights_only=True
        )
        fit(model, saving, weights)
        last = model.get_weights()
        model.load_weights(str(tmp_path / "2.weights.h5"))
        for before, after in zip(last, model.get_weights(), strict=True):
            np.testing.assert_array_equal(after, before)
        return keras.models.load_model(path).predict(X, verbose=0)

    same(classifier, use)


def test_model_checkpoints_every_few_batches(tmp_path: Path) -> None:
    def use(model: keras.Model) -> Any:
        path = str(tmp_path / "at{batch}.weights.h5")
        fit(model, callbacks.ModelCheckpoint(path, save_weights_only=True, save_freq=2))
        return sorted(file.name for file in tmp_path.iterdir())

    same(classifier, use)


class Interrupted(Exception):
    """Training was interrupted."""


def test_an_interrupted_fit_goes_on_where_it_was(tmp_path: Path) -> None:
    class Interrupt(callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise Interrupted

    def use(model: keras.Model) -> Any:
        settings = {**FIT, "epochs": 4, "shuffle": False}
        backup = callbacks.BackupAndRestore(str(tmp_path / "backup"))
        with pytest.raises(Interrupted):
            model.fit(X, LABELS, callbacks=[backup, Interrupt()], **settings)
        backup = callbacks.BackupAndRestore(str(tmp_path / "backup"))
        history = model.fit(X, LABELS, callbacks=[backup], **settings)
        return history.epoch, history.history

    assert same(classifier, use).result[0] == [2, 3]


def test_swapping_in_averaged_weights() -> None:
    def make() -> keras.Model:
        return classifier(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.8))

    same(make, lambda m: fit(m, callbacks.SwapEMAWeights()))


def test_a_callback_list_made_by_the_user() -> None:
    def use(model: keras.Model) -> Any:
        history = History()
        made = callbacks.CallbackList([history], add_history=True, model=model, epochs=2, steps=4)
        model.fit(X, LABELS, callbacks=made, **FIT)
        return history.calls

    same(classifier, use)


def test_callbacks_know_the_model_and_the_params() -> None:
    def use(model: keras.Model) -> Any:
        class Look(callbacks.Callback):
            def on_train_begin(self, logs: Any = None) -> None:
                assert self.model is model
                seen.update(self.params)

        seen: dict[str, Any] = {}
        fit(model, Look())
        return seen

    same(classifier, use)


@pytest.mark.parametrize("verbose", [1, 2])
def test_a_progress_bar_shows_every_epoch(verbose: int, capsys: pytest.CaptureFixture[str]) -> None:
    on_replicas(2, classifier, lambda m: fit(m, verbose=verbose))
    out = capsys.readouterr().out
    assert "Epoch 1/2" in out
    assert "Epoch 2/2" in out
    assert "3/3" in out
    assert "val_loss" in out


def test_an_exception_of_a_callback_comes_through_and_the_model_can_be_trained_again() -> None:
    class Fail(callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise Interrupted

    def use(model: keras.Model) -> Any:
        with pytest.raises(Interrupted):
            fit(model, Fail())
        return fit(model)

    same(classifier, use)


@pytest.mark.thorough
def test_many_models_are_not_taken_for_one_that_is_traced_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(6):
        with mirrored(2).scope():
            model = tfdist.plug(classifier())
        model.fit(X, LABELS, validation_data=(X, LABELS), batch_size=32, verbose=0)
        model.predict(X, verbose=0)
    assert "retracing" not in caplog.text
