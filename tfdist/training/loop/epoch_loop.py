"""The epoch loop: `fit`, `evaluate` and `predict`, once for every family of strategy.

It follows `keras.Model.fit` in what callbacks see and in what is returned; a family of strategy
tells how chunks of steps run and how metrics come back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tfdist import log
from tfdist.compat import keras_build, keras_trainer
from tfdist.errors import DataError
from tfdist.strategies import fit_clock
from tfdist.strategies.stall_watch import note
from tfdist.structures import Callbacks, Logs, Nest
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.data.stream import Stream
from tfdist.training.loop import call_agreement, callback_routing, fit_progress
from tfdist.training.loop.call_agreement import Agreed
from tfdist.training.loop.chunking import ChunkLength
from tfdist.training.loop.family import Family
from tfdist.training.loop.job_state import JobState
from tfdist.training.loop.made_for import MadeFor
from tfdist.training.loop.prediction import Prediction
from tfdist.training.loop.saving import Saving
from tfdist.training.mode import Mode
from tfdist.training.model_parts import optimizers_of, unique
from tfdist.training.peers.watchdog import Watchdog

__all__ = ["Epochs", "Loop"]


@dataclasses.dataclass(frozen=True)
class Epochs:
    """Which epochs to train, and when to validate (`fit`'s arguments of the same names)."""

    epochs: int = 1
    initial_epoch: int = 0
    validation_freq: int | Container[int] = 1

    def validates(self, epoch: int) -> bool:
        """Whether epoch number `epoch` (from 0) ends with a validation."""
        if isinstance(self.validation_freq, int):
            return (epoch + 1) % self.validation_freq == 0
        return epoch + 1 in self.validation_freq


class Loop:
    """Runs epochs of one plugged model.

    Args:
        model: a built and compiled model.
        family: how its strategy takes steps.

    Attributes:
        examples: how many rows, of all replicas, this process's job has trained on so far.
    """

    def __init__(self, model: keras.Model, family: Family) -> None:
        self.model = model
        self.family = family
        self.layout = family.layout
        self.made_for = MadeFor()
        self._stops_are_agreed = False
        self._told_size = 0
        self.examples = 0

    # ------------------------------------------------------------ fit

    def fit(
        self,
        data: Stream,
        validation: Stream | None,
        epochs: Epochs,
        callbacks: Callbacks,
        verbose: int | str,
        own_evaluate: Callable[..., Logs] | None = None,
    ) -> keras.callbacks.History:
        """Trains; the arguments are as in `keras.Model.fit`, the data already shared out.

        `own_evaluate` validates instead, given the callbacks: where the model's class does it.
        """
        model, family = self.model, self.family
        wanted = {
            "epochs": epochs.epochs,
            "initial_epoch": epochs.initial_epoch,
            "steps an epoch": data.num_steps or -1,
            "rows of a global batch": data.batch_size or -1,
            "steps of a validation": -1 if validation is None else validation.num_steps or -2,
        }
        agreed = self.agree("fit", wanted, callbacks, ("train", "test"))
        size = data.batch_size
        if size and size != self._told_size and self.layout.replicas > 1 and self.layout.is_chief:
            self._told_size = size
            log.info("training: %s", self.layout.describe_batch(size))
        callback_list = self.callback_list(
            callbacks, verbose, add_history=True, epochs=epochs.epochs, steps=data.num_steps
        )
        saving = Saving(model, family, data, validation, callback_list.callbacks, agreed.cadence)
        model.stop_training = False
        family.prepare_to_train()
        data.rewind()
        if agreed.restores:
            self._build_what_is_restored()
        told = fit_progress.fitting(
            functools.partial(family.tells_apart, data),
            callback_list.callbacks,
            epochs=epochs.epochs,
            steps=data.num_steps,
            batch=data.batch_size,
        )
        with saving.running(), told:
            self._train(data, validation, epochs, callback_list, saving, agreed, own_evaluate)
        return model.history

    def _train(
        self,
        data: Stream,
        validation: Stream | None,
        epochs: Epochs,
        callback_list: keras.callbacks.CallbackList,
        saving: Saving,
        agreed: Agreed,
        own_evaluate: Callable[..., Logs] | None,
    ) -> None:
        """Runs the epochs of one `fit`."""
        model, family = self.model, self.family
        chunk_length, test_chunk_length = agreed.paces
        note("in its callbacks, as the training begins", "callbacks", alone=True)
        callback_list.on_train_begin()
        first = keras_trainer.restored_epoch(model) or epochs.initial_epoch
        state: JobState | None = None
        if agreed.restores:
            first = self._follow_the_chief(first)
            state = saving.restored()
        family.begin_to_train()
        training_logs: Logs | None = None
        logs: Logs = {}
        if state is not None:
            first = epochs.epochs if state.ends(epochs.epochs) else first
            saving.go_on(state, ended=first >= epochs.epochs)
            saving.give_back_to_replicas(state)
            training_logs = logs = dict(state.logs)
        for epoch in range(first, epochs.epochs):
            began = f"in its callbacks, as epoch {epoch + 1} begins"
            note(began, "callbacks", alone=True, epoch=epoch)
            begun = 0 if state is None or epoch > first else state.step
            if not begun:
                family.reset_metrics()
            with saving.rates_kept() if begun else contextlib.nullcontext():
                callback_list.on_epoch_begin(epoch)
            saving.begin_epoch(epoch, begun, chunk_length)
            fit_progress.tell_epoch(epoch, begun)
            logs = self._run("train", data, chunk_length, callback_list, logs, begun, saving)
            epoch_logs = dict(logs)
            val_logs = None
            if own_evaluate is not None and epochs.validates(epoch):
                fit_clock.CLOCK.enter("compute")
                val_logs = own_evaluate(callbacks=callback_list)
            elif validation is not None and epochs.validates(epoch):
                val_logs = self._evaluate(validation, test_chunk_length, callback_list)
            if val_logs is not None:
                epoch_logs |= fit_progress.tell_validation(val_logs)
            note(f"in its callbacks at the end of epoch {epoch + 1}", "callbacks", alone=True)
            with self._for_writers(agreed, callback_list):
                callback_list.on_epoch_end(epoch, epoch_logs)
            note(f"at the border after epoch {epoch + 1}, where workers meet", "exchange")
            training_logs = epoch_logs
            stops = self._stops_after_epoch()
            saving.after_epoch(epoch, epoch_logs, stops or epoch + 1 == epochs.epochs)
            if stops:
                break
        if isinstance(model.optimizer, keras.optimizers.Optimizer) and epochs.epochs > 0:
            model.optimizer.finalize_variable_values(model.trainable_weights)
        with self._for_writers(agreed, callback_list):
            callback_list.on_train_end(logs=training_logs)

    def _for_writers(
        self, agreed: Agreed, running: keras.callbacks.CallbackList
    ) -> contextlib.AbstractContextManager[None]:
        """Shows callbacks that may write the model, the chief's or the user's own, all of it."""
        keep = self.layout.is_chief or callback_routing.may_save(running)
        return self.family.gathered(keep) if agreed.writes else contextlib.nullcontext()

    def _build_what_is_restored(self) -> None:
        """Builds the optimizer of `compile`, which `BackupAndRestore` would, on the chief alone.

        Where a class has optimizers of its own it is Keras' default one, which no step has built.
        """
        model = self.model
        if isinstance(model.optimizer, keras.optimizers.Optimizer):
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)

    def _follow_the_chief(self, epoch: int) -> int:
        """After the chief's callbacks may have restored a model: everybody takes it over."""
        model = self.model
        optimizers = [v for optimizer in optimizers_of(model) for v in optimizer.variables]
        seeds = keras_build.global_seeds()
        self.family.broadcast(unique([*model.variables, *optimizers, *seeds]))
        return int(self.family.all_gather([epoch])[0, 0])

    # ------------------------------------------------------------ evaluate

    def evaluate(self, data: Stream, callbacks: Callbacks, verbose: int | str) -> Logs:
        """Evaluates every example of `data` once; returns the metrics by name."""
        wanted = {"steps": data.num_steps or -1, "rows of a global batch": data.batch_size or -1}
        chunk_length, _ = self.agree("evaluate", wanted, callbacks, ("test",)).paces
        callback_list = self.callback_list(callbacks, verbose, epochs=1, steps=data.num_steps)
        return self._evaluate(data, chunk_length, callback_list)

    def _evaluate(
        self, data: Stream, chunk_length: ChunkLength, callback_list: keras.callbacks.CallbackList
    ) -> Logs:
        self.model.stop_evaluating = False
        note("in its callbacks, as an evaluation begins", "callbacks", alone=True)
        callback_list.on_test_begin()
        self.family.reset_metrics()
        data.rewind()
        logs = self._run("test", data, chunk_length, callback_list, {})
        note("in its callbacks, as an evaluation ends", "callbacks", alone=True)
        callback_list.on_test_end(logs)
        return logs

    # ------------------------------------------------------------ predict

    def predict(
        self, prediction: Prediction, data: GlobalBatches, callbacks: Callbacks, verbose: int | str
    ) -> Nest:
        """Returns the outputs for every example of `data`, in its order, on every worker.

        Raises:
            DataError: there are no data.
        """
        wanted = {"steps": data.num_steps or -1, "rows of a global batch": data.batch_size or -1}
        chunk_length, _ = self.agree("predict", wanted, callbacks, ("predict",)).paces
        callback_list = self.callback_list(callbacks, verbose, epochs=1, steps=data.num_steps)
        self.model.stop_predicting = False
        callback_list.on_predict_begin()
        outputs: dict[Any, Nest] = {}
        data.begin_epoch(self.family.all_gather)
        step = 0
        with contextlib.closing(prediction.chunks(data, chunk_length)) as chunks:
            note("in the input pipeline of predict", alone=True)
            for run in chunks:
                note("in its callbacks around predict steps", alone=True)
                callback_list.on_predict_batch_begin(step)
                note("in its predict steps")
                place, count, found = run()
                outputs[place] = found
                step += count
                note("in its callbacks around predict steps", alone=True)
                callback_list.on_predict_batch_end(step - 1, {"outputs": found})
                self.stops("stop_predicting")  # the chunks heed it
                note("in the input pipeline of predict", alone=True)
        data.end_epoch()
        callback_list.on_predict_end()
        if not outputs:
            raise DataError("predict was given no data: the dataset is empty")
        in_order = [outputs[place] for place in sorted(outputs)]
        return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *in_order)

    # ------------------------------------------------------------ one pass over the data

    def _run(
        self,
        mode: Mode,
        data: Stream,
        chunk_length: ChunkLength,
        callback_list: keras.callbacks.CallbackList,
        logs: Logs,
        begun: int = 0,
        saving: Saving | None = None,
    ) -> Logs:
        """Runs the steps of one epoch, or what is left after `begun`; returns the last logs."""
        model, family = self.model, self.family
        begin = getattr(callback_list, f"on_{mode}_batch_begin")
        end = getattr(callback_list, f"on_{mode}_batch_end")
        flag = "stop_training" if mode == "train" else "stop_evaluating"
        what = f"{self.layout.task} in its {mode} steps"
        fit_clock.CLOCK.enter("input")
        if not begun or not data.has_position:
            data.begin_epoch(family.all_gather)
        step = begun
        chunks = family.chunks(mode, data, chunk_length)
        with Watchdog(what, active=self.layout.task != "") as watch, contextlib.closing(chunks):
            for run in chunks:
                note(f"in its callbacks around {mode} steps", "callbacks", alone=True)
                begin(step)
                self.made_for.check(model, family, "fit" if mode == "train" else "evaluate")
                if saving is not None:
                    saving.before_chunk(chunk_length)
                note(f"in its {mode} steps", "compute", step=step)
                before = data.rows
                count, logs = run()
                rows = data.rows - before
                step += count
                note(f"in its callbacks around {mode} steps", "callbacks", alone=True)
                if mode == "train":
                    self.examples += rows
                    fit_progress.tell_steps(step, data.num_steps, logs, count, rows)
                if count:
                    end(step - 1, logs)
                watch.moved()
                if self._stops_are_agreed and self.stops(flag):
                    break
                if saving is not None:
                    saving.after_chunk(step, logs, chunk_length)
                note("in the input pipeline", "input", alone=True)  # as far as Python reads it
        fit_clock.CLOCK.enter("compute")
        family.bring_together()
        self._check_length(data, step, begun)
        data.end_epoch()
        return logs

    def _check_length(self, data: Stream, step: int, begun: int) -> None:
        """Notes where the stream has ended, and warns if the user has asked for more."""
        all_taken = data.left(step - begun) == 0
        exhausted = data.ended or (all_taken and step < (data.steps_asked or 0))
        if not exhausted:
            return
        data.ran_out()
        if data.steps_asked is not None and step < data.steps_asked:
            warnings.warn(
                f"the data ran out after {step} of {data.steps_asked} steps: give a dataset that "
                "holds steps_per_epoch * epochs batches, or .repeat() it",
                stacklevel=5,
            )

    # ------------------------------------------------------------ agreement

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """For an `evaluate` or a `predict` that may be called inside of a `fit`."""
        before = self._stops_are_agreed
        try:
            with fit_clock.apart():
                yield
        finally:
            self._stops_are_agreed = before

    def agree(
        self, what: str, wanted: dict[str, int], callbacks: Callbacks, modes: Sequence[Mode]
    ) -> Agreed:
        """Makes sure that every worker is about to do the same; see `call_agreement.agree`."""
        agreed = call_agreement.agree(self.model, self.family, what, wanted, callbacks, modes)
        self._stops_are_agreed = agreed.stops
        return agreed

    def _stops_after_epoch(self) -> bool:
        """`stops`, and makes sure that no callback has changed one worker's model alone.

        Raises:
            PlugError: one has.
        """
        own = bool(getattr(self.model, "stop_training", False))
        told, digests = call_agreement.tell_with_digest(self.family, [float(own)], training=True)
        self.family.drift.check(digests)
        self.model.stop_training = bool(told.any())
        return self.model.stop_training

    def stops(self, flag: str) -> bool:
        """Whether a callback of any worker has asked to stop: then all stop."""
        own = bool(getattr(self.model, flag, False))
        stops = bool(self.family.all_gather([float(own)]).any())
        setattr(self.model, flag, stops)
        return stops

    def callback_list(
        self,
        callbacks: Callbacks,
        verbose: int | str,
        *,
        add_history: bool = False,
        epochs: int,
        steps: int | None,
    ) -> keras.callbacks.CallbackList:
        """Returns the callbacks that run on this worker, as Keras calls them."""
        if isinstance(callbacks, keras.callbacks.CallbackList):
            return callbacks
        chief = self.layout.is_chief
        verbose = verbose if chief else 0
        return keras.callbacks.CallbackList(
            callback_routing.callbacks_for(callbacks, chief),
            add_history=add_history,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=epochs,
            steps=steps,
            model=self.model,
        )
