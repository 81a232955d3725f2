"""Which callbacks run on which worker, and how often they want to be called.

Keras' callbacks know nothing of workers: each would write the same file on every one of them. Those
that only write run on the chief alone; those that steer training run everywhere and, being given
the same logs everywhere, decide the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import keras

from tfdist.compat import keras_trainer
from tfdist.structures import Callbacks
from tfdist.training.mode import Mode

__all__ = [
    "callbacks_for",
    "flat",
    "may_save",
    "may_stop_mid_epoch",
    "restores_the_model",
    "wants_every_batch",
    "writes_the_model",
]

CHIEF_ONLY: tuple[type[keras.callbacks.Callback], ...] = (
    keras.callbacks.BackupAndRestore,
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)
"""Keras' callbacks that write or show; the other workers go without them."""

_TRAIN_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
_HOOKS = {
    "train": _TRAIN_HOOKS,
    "test": ("on_test_batch_begin", "on_test_batch_end"),
    "predict": ("on_predict_batch_begin", "on_predict_batch_end"),
}


def callbacks_for(callbacks: Callbacks, is_chief: bool) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that this worker runs."""
    return [callback for callback in flat(callbacks) if is_chief or not _chief_only(callback)]


def _chief_only(callback: keras.callbacks.Callback) -> bool:
    return isinstance(callback, CHIEF_ONLY) or getattr(callback, "chief_only", False)


def flat(callbacks: Callbacks) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of nested lists, or of one alone, in one list."""
    if callbacks is None:
        return []
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    if isinstance(callbacks, Iterable) and not isinstance(callbacks, keras.callbacks.Callback):
        return [one for entry in callbacks for one in flat(entry)]
    return [callbacks]


def restores_the_model(callbacks: Callbacks) -> bool:
    """Whether a callback may load weights when training begins (on the chief; all must follow)."""
    return any(
        isinstance(callback, keras.callbacks.BackupAndRestore)
        or getattr(callback, "restores_the_model", False)
        for callback in flat(callbacks)
    )


def writes_the_model(callbacks: Callbacks) -> bool:
    """Whether a callback may write the model, slots and all, on the chief alone."""
    tell = (
        keras.callbacks.CSVLogger,
        keras.callbacks.ProgbarLogger,
        keras.callbacks.RemoteMonitor,
        keras.callbacks.TensorBoard,
    )
    return any(_chief_only(one) and not isinstance(one, tell) for one in flat(callbacks))


def may_save(callbacks: Callbacks) -> bool:
    """Whether some code of the user's runs where `fit` shows whole slots, and so may save a model.

    None of Keras' and tfdist's own hooks does, but those that run on the chief alone.
    """
    hooks = (
        getattr(one, name) for one in flat(callbacks) for name in ("on_epoch_end", "on_train_end")
    )
    modules = (getattr(hook, "__module__", None) or "" for hook in hooks)
    return any(module.partition(".")[0] not in ("keras", "tfdist") for module in modules)


def wants_every_batch(callbacks: Callbacks, mode: Mode) -> bool:
    """Whether a callback looks at every batch, so that steps cannot run in longer chunks.

    Args:
        callbacks: the user's callbacks.
        mode: "train", "test" or "predict".
    """
    return any(_looks_at_batches(callback, mode) for callback in flat(callbacks))


def _looks_at_batches(callback: keras.callbacks.Callback, mode: Mode) -> bool:
    if getattr(callback, "chunks_will_do", False):
        return False
    # Once a chunk is enough for these: a loss that is NaN stays NaN, and a bar may jump.
    if isinstance(callback, keras.callbacks.ProgbarLogger | keras.callbacks.TerminateOnNaN):
        return False
    if isinstance(callback, keras.callbacks.TensorBoard):
        return callback.update_freq != "epoch" or keras_trainer.profiles(callback)
    if isinstance(callback, keras.callbacks.ModelCheckpoint | keras.callbacks.BackupAndRestore):
        return mode == "train" and callback.save_freq != "epoch"
    return _has_hook(callback, mode)


def may_stop_mid_epoch(callbacks: Callbacks) -> bool:
    """Whether a callback could ask to stop between two steps, so that the workers must agree."""
    return any(
        _has_hook(callback, mode) and not isinstance(callback, CHIEF_ONLY)
        for callback in flat(callbacks)
        for mode in ("train", "test")
    )


def _has_hook(callback: keras.callbacks.Callback, mode: Mode) -> bool:
    base = keras.callbacks.Callback
    return any(
        name in vars(callback) or getattr(type(callback), name) is not getattr(base, name)
        for name in _HOOKS[mode]
    )
