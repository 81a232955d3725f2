"""Which callbacks run on which worker, and which of them want to see every batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest

import tfdist
from tfdist.training.loop.callback_routing import (
    CHIEF_ONLY,
    callbacks_for,
    may_save,
    may_stop_mid_epoch,
    restores_the_model,
    wants_every_batch,
)
from tfdist.training.mode import Mode

MODES: tuple[Mode, ...] = ("train", "test", "predict")


class Marked(keras.callbacks.Callback):
    chief_only = True


def those_that_write(folder: Path) -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.BackupAndRestore(folder / "backup"),
        keras.callbacks.CSVLogger(folder / "log.csv"),
        keras.callbacks.ModelCheckpoint(folder / "model.keras"),
        keras.callbacks.ProgbarLogger(),
        keras.callbacks.RemoteMonitor(),
        keras.callbacks.TensorBoard(folder / "board"),
    ]


def those_that_steer() -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.EarlyStopping(),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        keras.callbacks.ReduceLROnPlateau(),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.History(),
        keras.callbacks.LambdaCallback(),
    ]


# ---------------------------------------------------------------- on which worker


def test_what_only_writes_runs_on_the_chief_alone(tmp_path: Path) -> None:
    callbacks = those_that_write(tmp_path)
    assert {type(callback) for callback in callbacks} == set(CHIEF_ONLY)
    assert callbacks_for(callbacks, is_chief=True) == callbacks
    assert callbacks_for(callbacks, is_chief=False) == []


class Save(keras.callbacks.EarlyStopping):
    def on_train_end(self, logs: Any = None) -> None:
        self.model.save("model.keras")


def test_only_hooks_of_the_users_may_save_where_the_chief_does(tmp_path: Path) -> None:
    assert not may_save([*those_that_write(tmp_path), *those_that_steer(), Marked()])
    assert not may_save([tfdist.callbacks.Checkpoint(tmp_path / "kept"), None, []])
    assert may_save([those_that_steer(), [Save()]])
    assert may_save(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None))


def test_what_steers_training_runs_everywhere() -> None:
    callbacks = those_that_steer()
    for is_chief in (True, False):
        assert callbacks_for(callbacks, is_chief) == callbacks


def test_a_callback_may_say_itself_that_it_is_the_chiefs() -> None:
    own = Marked()
    assert callbacks_for([own], is_chief=True) == [own]
    assert callbacks_for([own], is_chief=False) == []


def test_the_checkpoint_of_tfdist_runs_everywhere(tmp_path: Path) -> None:
    """All take over what the chief restores; it asks itself who writes."""
    checkpoint = tfdist.callbacks.Checkpoint(tmp_path)
    assert callbacks_for([checkpoint], is_chief=False) == [checkpoint]


def test_none_one_lists_and_lists_of_lists_are_callbacks() -> None:
    one, two, three = those_that_steer()[:3]
    assert callbacks_for(None, True) == []
    assert callbacks_for([], True) == []
    assert callbacks_for(one, True) == [one]
    assert callbacks_for((one, [two, (three,)], None), True) == [one, two, three]


def test_a_list_of_callbacks_of_keras_is_a_list() -> None:
    one = keras.callbacks.EarlyStopping()
    listed = keras.callbacks.CallbackList([one], add_history=False)
    assert callbacks_for(listed.callbacks, True) == [one]


# ---------------------------------------------------------------- who restores


@pytest.mark.parametrize("resume", [True, False])
def test_a_checkpoint_restores_where_it_resumes(resume: bool, tmp_path: Path) -> None:
    checkpoint = tfdist.callbacks.Checkpoint(tmp_path, resume=resume)
    assert restores_the_model([checkpoint]) is resume


def test_a_backup_restores_and_the_others_do_not(tmp_path: Path) -> None:
    backup, *others = those_that_write(tmp_path)
    assert restores_the_model([[backup]])
    assert not restores_the_model([*others, *those_that_steer()])
    assert not restores_the_model(None)


# ---------------------------------------------------------------- who looks at batches


def hooked(name: str) -> keras.callbacks.Callback:
    """A callback with one hook of its own."""
    made: type[keras.callbacks.Callback] = type(
        "Own", (keras.callbacks.Callback,), {name: lambda self, batch, logs=None: None}
    )
    return made()


HOOKS: list[tuple[str, Mode]] = [
    ("on_batch_begin", "train"),
    ("on_batch_end", "train"),
    ("on_train_batch_begin", "train"),
    ("on_train_batch_end", "train"),
    ("on_test_batch_begin", "test"),
    ("on_test_batch_end", "test"),
    ("on_predict_batch_begin", "predict"),
    ("on_predict_batch_end", "predict"),
]


@pytest.mark.parametrize(("name", "mode"), HOOKS)
def test_a_hook_looks_at_every_batch_of_its_own_mode(name: str, mode: Mode) -> None:
    found = [each for each in MODES if wants_every_batch([hooked(name)], each)]
    assert found == [mode]


def test_a_hook_of_a_lambda_is_one_too() -> None:
    each = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    assert wants_every_batch(each, "train")
    assert not wants_every_batch(each, "test")
    assert not wants_every_batch(keras.callbacks.LambdaCallback(), "train")


@pytest.mark.parametrize("mode", MODES)
def test_what_steers_by_epochs_does_not_look_at_batches(mode: Mode) -> None:
    assert not wants_every_batch(those_that_steer(), mode)


@pytest.mark.parametrize("mode", MODES)
def test_what_may_be_told_once_a_chunk_does_not_look_at_batches(mode: Mode) -> None:
    own = hooked("on_train_batch_end")
    own.chunks_will_do = True
    bar, nan = keras.callbacks.ProgbarLogger(), keras.callbacks.TerminateOnNaN()
    assert not wants_every_batch([own, bar, nan], mode)


@pytest.mark.parametrize(
    ("settings", "looks"),
    [
        ({}, False),
        ({"update_freq": "batch"}, True),
        ({"update_freq": 10}, True),
        ({"profile_batch": 3}, True),
    ],
)
def test_tensorboard_looks_at_batches_where_it_is_asked_to(
    settings: dict[str, Any], looks: bool, tmp_path: Path
) -> None:
    board = keras.callbacks.TensorBoard(tmp_path, **settings)
    if "profile_batch" in settings:
        board._should_trace = True  # as it says itself when training begins
    assert wants_every_batch([board], "train") is looks


@pytest.mark.parametrize(
    "kind", [keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore]
)
@pytest.mark.parametrize("frequency", ["epoch", 5])
def test_who_saves_within_an_epoch_looks_at_the_batches_of_training(
    kind: Any, frequency: Any, tmp_path: Path
) -> None:
    saving = kind(tmp_path / "model.keras", save_freq=frequency)
    found = [mode for mode in MODES if wants_every_batch([saving], mode)]
    assert found == ([] if frequency == "epoch" else ["train"])


# ---------------------------------------------------------------- who may stop


@pytest.mark.parametrize(("name", "mode"), HOOKS)
def test_a_hook_of_training_or_testing_may_stop_mid_epoch(name: str, mode: Mode) -> None:
    assert may_stop_mid_epoch([hooked(name)]) is (mode != "predict")


def test_who_only_writes_never_stops(tmp_path: Path) -> None:
    assert not may_stop_mid_epoch(those_that_write(tmp_path))
    assert not may_stop_mid_epoch(None)


def test_a_loss_that_is_nan_stops_mid_epoch() -> None:
    assert may_stop_mid_epoch([keras.callbacks.TerminateOnNaN()])
    assert not may_stop_mid_epoch([keras.callbacks.EarlyStopping()])
