"""The Keras callbacks that tfdist adds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfdist import log, process
from tfdist.compat import keras_trainer
from tfdist.errors import CheckpointError
from tfdist.training.checkpointing.random_state import add_random_state, restore_random_state
from tfdist.training.checkpointing.store import Saved, Store
from tfdist.training.plugged import Plugged

__all__ = ["Checkpoint"]


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole training state at the ends of epochs, and resumes from the newest one.

    Give it to `fit` on every worker. The chief alone writes, atomically: a job that is killed at
    any moment leaves the last whole checkpoint. When `fit` begins and the directory holds a
    checkpoint, the chief reads it, every worker takes over its values, and training goes on with
    the epoch after it; so a job resumes by being started again. Only the chief needs to see the
    directory. Each file is an ordinary `.keras` file that `keras.models.load_model` opens.

    An evaluator task beside the job, which runs the same script and sees the directory too, scores
    the checkpoints on `fit`'s `validation_data` as they come, and ends when training has; see
    `tfdist.training.evaluator`.

    A checkpoint that turns out to be damaged is named and passed over for the one before it, and
    weights that are not finite never become one: they are kept aside.

    It restores weights, optimizer (learning rate and step count too) and random states. What other
    callbacks remember (the patience of EarlyStopping) and an unfinished epoch are not kept.

    Args:
        directory: where the checkpoints lie.
        every: save at the end of every so many epochs, and of the last.
        keep: how many checkpoints to keep.
        resume: False starts anew, whatever the directory holds.

    Raises:
        CheckpointError: the directory cannot be written, or what it holds is of another model.

    Example:
        >>> model.fit(dataset, epochs=5, callbacks=[tfdist.callbacks.Checkpoint("run/")])
    """

    chunks_will_do = True

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every: int = 1,
        keep: int = 3,
        resume: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(every, int) or every < 1:
            raise CheckpointError(f"every={every!r}: give a number of epochs, at least 1")
        self.every = every
        self.resume = resume
        self.restores_the_model = resume
        self.store = Store(directory, keep)
        self._last: tuple[int, dict[str, Any]] | None = None
        self._saved_epoch = 0

    @property
    def latest(self) -> Saved | None:
        """The newest checkpoint in the directory, if there is one."""
        return self.store.latest()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the newest checkpoint on the chief; the others take its values over.

        The chief then notes in the directory that a run has begun.

        Raises:
            CheckpointError: this process is the job's evaluator, which must not write there.
        """
        if process.current().is_evaluator:
            raise CheckpointError(
                f"fit of a model that is not plugged, on the evaluator, would write over the "
                f"checkpoints in {self.store.directory}: give tfdist.plug the model before fit"
            )
        self._last, self._saved_epoch = None, 0
        if not self._is_chief:
            return
        saved = self.store.latest() if self.resume else None
        if saved is not None:
            self._restore(saved)
        self.store.begin(resumed=saved)

    def _restore(self, saved: Saved) -> None:
        try:
            self.model.load_weights(str(saved.path))
            restore_random_state(saved.path, self.model)
        except (ValueError, OSError, KeyError) as error:
            raise CheckpointError(
                f"{saved.path} cannot be restored into this model, as it is of another one or "
                f"damaged: give another directory, or resume=False to start anew ({error})"
            ) from error
        keras_trainer.begin_with_epoch(self.model, saved.epoch)
        self._saved_epoch = saved.epoch
        log.info("resuming after epoch %d, from %s", saved.epoch, saved.path)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, if this epoch's turn has come."""
        self._last = (epoch + 1, dict(logs or {}))
        if (epoch + 1) % self.every == 0:
            self._save()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Saves what the last epoch left unsaved, and notes that training has ended well."""
        self._save()
        if self._is_chief:
            self.store.finish()

    def _save(self) -> None:
        if self._last is None or self._last[0] == self._saved_epoch or not self._is_chief:
            return
        epoch, logs = self._last

        def save(path: str) -> None:
            keras_trainer.save(self.model, path)
            add_random_state(Path(path), self.model)

        self._saved_epoch = epoch
        if lost := _not_finite(self.model):
            log.warning(
                "after epoch %d, %s has numbers that are not finite: saved as %s, and not as a "
                "checkpoint to resume from; a lower learning rate or clipping often helps",
                epoch,
                lost,
                self.store.put_aside(save),
            )
            return
        self.store.write(save, epoch, logs)

    @property
    def _is_chief(self) -> bool:
        plugged = Plugged.of(self.model)
        return process.current().is_chief if plugged is None else plugged.layout.is_chief


def _not_finite(model: keras.Model) -> str:
    """The path of the first weight that is NaN or infinite somewhere; "" where none is."""
    for variable in model.weights:
        value = np.asarray(variable)
        if np.issubdtype(value.dtype, np.inexact) and not np.isfinite(value).all():
            return variable.path
    return ""
