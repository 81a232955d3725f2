"""Keeps the whole state of a training job, and resumes from it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import keras

from tfdist import log, process
from tfdist.compat import keras_trainer
from tfdist.errors import CheckpointError
from tfdist.given_numbers import is_count, is_number
from tfdist.training.checkpointing.background import Background
from tfdist.training.checkpointing.extra_parts import read_job_state, restore_random_state
from tfdist.training.checkpointing.loading import in_short, load_variables
from tfdist.training.checkpointing.server_copies import ServerCopies
from tfdist.training.checkpointing.server_files import servers_write
from tfdist.training.checkpointing.sharded_folder import state_file
from tfdist.training.checkpointing.snapshot import Snapshot
from tfdist.training.checkpointing.store import Saved, Store
from tfdist.training.embeddings.table_slots import plain_variables
from tfdist.training.loop.job_state import JobState
from tfdist.training.plugged import Plugged
from tfdist.training.slot_shards import whole_slots
from tfdist.training.slot_shards.whole_slots import WholeSlots

__all__ = ["Checkpoint"]


class Checkpoint(keras.callbacks.Callback):
    """Keeps the whole state of training, and resumes from the newest one, in an epoch's middle too.

    Give it to `fit` on every worker. The chief alone writes, atomically and beside the training: a
    job that is killed at any moment leaves the last whole checkpoint. When `fit` begins and the
    directory holds a checkpoint, the chief reads it, every worker takes it over, and training goes
    on with the step after it; so a job resumes by being started again. Only the chief needs to see
    the directory. Each is an ordinary `.keras` file that `keras.models.load_model` opens, but for
    large models on parameter servers, which write what they keep themselves (`sharded`).

    Kept are weights, optimizers, random states, what the metrics have counted, the history, where
    the data stand on every worker, and what callbacks remember: those of Keras (EarlyStopping,
    ReduceLROnPlateau, ModelCheckpoint's best), and your own that have `get_state()`, which returns
    numbers, strings, arrays, lists and dicts of these, and `set_state(state)`. With a seed
    (`keras.utils.set_random_seed`) a run that was killed and started again ends with the bits of
    one that was not. Data are brought there by doing again what was done to them: earlier epochs
    draw their shuffles without being read, and the batches of this one are skipped; what Python
    code makes (a generator, a `PyDataset`) is made again and thrown away.

    A `fit` that has ended well and is started again has no epoch left, and ends with the weights
    and the history of before. One that is asked for more epochs is another run, to which that lends
    its model, optimizer and random numbers alone. Give each `fit` of a program, and each job, a
    directory of its own: a run that finds another one's checkpoints beside its own ends.

    SIGTERM, SIGUSR1 or SIGUSR2 to any task, or to `tfdist run`, has all of them end after the steps
    they are at, with a checkpoint and exit code 75.

    An evaluator task beside the job, which runs the same script and sees the directory too, scores
    the checkpoints on `fit`'s `validation_data` as they come, and ends when training has; see
    `tfdist.training.evaluator`.

    A checkpoint that turns out to be damaged is named and passed over for the one before it, and
    weights that are not finite never become one: they are kept aside.

    Args:
        directory: where the checkpoints lie.
        every: save at the end of every so many epochs, and of the last.
        every_steps: save after every so many steps of an epoch, too.
        every_secs: save when so many seconds have passed since the last one, too.
        keep: how many checkpoints to keep.
        resume: False starts anew, whatever the directory holds.
        save_on_background: whether training goes on while a checkpoint is written; it then waits
            only where the one before is not yet.
        sharded: whether parameter servers write what they keep themselves, into a folder of
            TensorFlow's format, so that nothing of it passes through the chief's memory; all ps
            tasks must see the directory. None does so from 256 MiB of weights and slots on, if they
            see it. Without parameter servers it means nothing. Either kind is resumed by any job.

    Raises:
        CheckpointError: the directory cannot be written, or what it holds is of another model; or
            `sharded` is True, and a server does not see the directory.

    Example:
        >>> keep = tfdist.callbacks.Checkpoint("run/", every_steps=500)
        >>> model.fit(dataset, epochs=5, callbacks=[keep])
    """

    chunks_will_do = True

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every: int = 1,
        every_steps: int | None = None,
        every_secs: float | None = None,
        keep: int = 3,
        resume: bool = True,
        save_on_background: bool = True,
        sharded: bool | None = None,
    ) -> None:
        super().__init__()
        if not (sharded is None or isinstance(sharded, bool)):
            raise CheckpointError(f"sharded={sharded!r}: give True, False or None (by the size)")
        for name, flag in {"resume": resume, "save_on_background": save_on_background}.items():
            if not isinstance(flag, bool):
                raise CheckpointError(f"{name}={flag!r}: give True or False")
        for name, value in {"every": every, "every_steps": every_steps}.items():
            if (value is not None or name == "every") and not is_count(value):
                what = "epochs" if name == "every" else "steps"
                raise CheckpointError(f"{name}={value!r}: give a number of {what}, at least 1")
        if every_secs is not None and not is_number(every_secs, above=0):
            raise CheckpointError(f"every_secs={every_secs!r}: give a number of seconds above 0")
        self.every = every
        self.every_steps = every_steps
        self.every_secs = every_secs
        self.resume = resume
        self.restores_the_model = resume
        self.sharded = sharded
        self.restored: JobState | None = None
        self.store = Store(directory, keep)
        self._background = Background(save_on_background)
        self._pending: JobState | None = None
        self._pending_slots: WholeSlots | None = None
        self._servers_write = False

    @property
    def latest(self) -> Saved | None:
        """The newest checkpoint in the directory, if there is one."""
        return self.store.latest()

    # ------------------------------------------------------------ as the loop calls it

    def keep(self, state: JobState, now: bool) -> None:
        """Keeps a state of the job, with the model as it is, on the chief.

        Args:
            state: of the job, at rest.
            now: False leaves it for the end of the training.

        Raises:
            CheckpointError: this one, or the one before, could not be written.
        """
        state = dataclasses.replace(state, asked=self._epochs)
        self._pending = None if now else state
        self._pending_slots = None if now else whole_slots.current()
        if now:
            # All that changes as training goes on is taken here, in its own thread.
            taken, data = self._take(), state.to_bytes()
            self._background.begin(lambda: self._write(taken, state, data))

    def keep_pending(self) -> None:
        """Keeps the state of an epoch whose turn had not come, if it was the last."""
        if self._pending is not None:
            with whole_slots.shown(self._pending_slots):
                self.keep(self._pending, now=True)

    def settle(self) -> None:
        """Waits until what was kept is on the disk.

        Raises:
            CheckpointError: it could not be written.
        """
        self._background.settle()

    def _take(self) -> Snapshot | ServerCopies:
        if not self._servers_write:
            return Snapshot(self.model)
        self._background.wait()  # no server holds three of each variable
        return ServerCopies(self.model, plain_variables(self.model))

    def _write(self, taken: Snapshot | ServerCopies, state: JobState, data: bytes) -> None:
        def save(path: str) -> None:
            taken.save(Path(path), data)

        if lost := taken.not_finite():
            log.warning(
                "after epoch %d, %s has numbers that are not finite: saved as %s, and not as a "
                "checkpoint to resume from; a lower learning rate or clipping often helps",
                state.epoch,
                lost,
                self.store.put_aside(save, taken.suffix),
            )
            return
        self.store.write(save, state.epoch, state.logs, state.step, taken.suffix)

    # ------------------------------------------------------------ as Keras calls it

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
        if Plugged.of(self.model) is None and (self.every_steps or self.every_secs):
            raise CheckpointError(
                "every_steps and every_secs are for a model that is plugged, whose loop knows "
                "where the data stand: call tfdist.plug(model) before fit, or leave them out"
            )
        self._pending, self._pending_slots, self.restored = None, None, None
        if not self._is_chief:
            return
        saved = self.store.latest(self._restore) if self.resume else None
        if saved is not None:
            keras_trainer.begin_with_epoch(self.model, saved.epoch)
            log.info("resuming after %s, from %s", saved, saved.path)
            self._tell_of_the_end(saved)
        self.store.begin(resumed=saved)
        variables = plain_variables(self.model)
        self._servers_write = servers_write(
            self.model, variables, self.store.directory, self.sharded
        )

    def _tell_of_the_end(self, saved: Saved) -> None:
        epochs = self._epochs
        if epochs is not None and saved.epoch >= epochs:
            left = "no epoch left"
            if saved.step:
                left += f", as the model has seen {saved.step} steps of epoch {saved.epoch + 1}"
        elif epochs is not None and self.restored is not None and self.restored.ends(epochs):
            left = f"no epoch left, as a callback had stopped it after epoch {saved.epoch}"
        else:
            return
        log.warning(
            "fit(epochs=%d) has %s: ask for more, or give an empty folder to train anew",
            epochs,
            left,
        )

    def _restore(self, saved: Saved) -> str | None:
        """Sets the model to a checkpoint; returns what is wrong with its files, or None."""
        try:
            variables = plain_variables(self.model)
            if damage := load_variables(saved.path, self.model, variables):
                return damage
            restore_random_state(state_file(saved.path), self.model)
            state = read_job_state(state_file(saved.path))
            if state is not None and state.workers and self._takes_up(saved, state):
                self.restored = state
            elif saved.step and state is None:
                log.warning(
                    "%s has no state of the job, as another program has written it: the epoch "
                    "begins with its first batch, and callbacks begin anew",
                    saved.path,
                )
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{saved.path} cannot be restored into this model, as it is of another one or "
                "damaged: give another directory, or resume=False to start anew "
                f"({in_short(error)})"
            ) from error
        return None

    def _takes_up(self, saved: Saved, state: JobState) -> bool:
        """Whether this run is the one that wrote a checkpoint, and not one that trains more.

        A run that has ended well lends its model to one that trains more epochs; one that has none
        left is the same again, in a program that was started again.
        """
        if saved.step or not saved.lent:
            return True
        epochs = self._epochs
        return epochs is not None and state.asked is not None and state.ends(epochs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, if this epoch's turn has come, in a plain `fit`; tfdist's asks for it itself."""
        if Plugged.of(self.model) is None and self._is_chief:
            state = JobState(epoch + 1, 0, dict(logs or {}), False, {}, [])
            self.keep(state, (epoch + 1) % self.every == 0)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Saves what the last epoch left unsaved, and notes that training has ended well."""
        if not self._is_chief:
            return
        self.keep_pending()
        self._background.close()
        self.store.finish()

    @property
    def _epochs(self) -> int | None:
        """What `fit` was asked for."""
        return (self.params or {}).get("epochs")

    @property
    def _is_chief(self) -> bool:
        plugged = Plugged.of(self.model)
        return process.current().is_chief if plugged is None else plugged.layout.is_chief
