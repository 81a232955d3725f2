"""One call of `LBFGS.minimize`: its iterations, and the callbacks that hear of them."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from tfdist import log
from tfdist.errors import PlugError
from tfdist.optimize.descent import Descent, Ending, Iteration, NotFinite
from tfdist.optimize.descent_folder import DescentFolder
from tfdist.optimize.whole_batch import WholeBatch
from tfdist.strategies.stall_watch import note
from tfdist.structures import Callbacks
from tfdist.training.loop import callback_routing, fit_progress

__all__ = ["DescentRun", "Minimum", "ended"]


@dataclasses.dataclass(frozen=True)
class Minimum:
    """What `LBFGS.minimize` has found; the weights are the model's.

    Attributes:
        loss: the mean over all rows, with the regularizers.
        gradient: the largest absolute value in its gradient.
        iterations: how many steps were taken.
        evaluations: how many passes over the data were made.
        converged: whether the gradient or the decrease of the loss is as small as was asked for.
        message: why it went no further.
        copies: portions that were handed out a second time, as the first was late.
        history: a `keras.callbacks.History`: an epoch is an iteration.
    """

    loss: float
    gradient: float
    iterations: int
    evaluations: int
    converged: bool
    message: str
    copies: int
    history: keras.callbacks.History


class DescentRun:
    """Takes iterations, and tells callbacks of them.

    Args:
        model: that is trained.
        descent: of its loss.
        whole: its loss.
        max_iterations: how many are taken at most.
        validation: arguments of `evaluate`; None where there is nothing to evaluate.
        folder: where the descent is kept; None where it is not.
    """

    def __init__(
        self,
        model: keras.Model,
        descent: Descent,
        whole: WholeBatch,
        max_iterations: int,
        validation: dict[str, Any] | None,
        folder: DescentFolder | None,
    ) -> None:
        self._model = model
        self._folder = folder
        self._descent = descent
        self._whole = whole
        self._max_iterations = max_iterations
        self._validation = validation

    def go(self, callbacks: Callbacks, verbose: int | str) -> Minimum:
        """Takes iterations until there are enough.

        Args:
            callbacks: as in `fit`.
            verbose: 0 for silence.

        Raises:
            PlugError: the loss is not finite where it begins, or where a callback has put it.
            CheckpointError: the folder cannot be written, or is another descent's.
        """
        model = self._model
        callback_list = keras.callbacks.CallbackList(
            callback_routing.callbacks_for(callbacks, True),
            add_history=True,
            verbose=verbose,
            epochs=self._max_iterations,
            model=model,
        )
        model.stop_training = False
        # An iteration is an epoch of one step. The chief reads the data; what workers do, it waits
        # for, and "compute" is.
        told = fit_progress.fitting(
            lambda: {"input"},
            callback_list.callbacks,
            epochs=self._max_iterations,
            steps=1,
            batch=None,
        )
        with told:
            return self._go(callback_list, verbose)

    def _go(self, callback_list: keras.callbacks.CallbackList, verbose: int | str) -> Minimum:
        model, descent = self._model, self._descent
        _note_callbacks("the descent begins")
        callback_list.on_train_begin()
        with _told_if_not_finite():
            gradient = self._begin()
        rows = self._whole.rows
        if verbose:
            log.info("L-BFGS: %s rows, loss %.6g", f"{rows:,.0f}", descent.loss)
        logs: dict[str, float] = {}
        stopped = False
        while descent.ending is None and descent.iterations < self._max_iterations and not stopped:
            number = descent.iterations
            _note_callbacks(f"iteration {number + 1} begins")
            fit_progress.tell_epoch(number, 0)
            callback_list.on_epoch_begin(number)
            began = time.monotonic()
            with _told_if_not_finite():
                made = descent.advance()
            if made is None:
                break
            gradient = made.gradient
            _note_callbacks(f"iteration {number + 1} ends")
            logs = self._logs(made)
            fit_progress.tell_steps(1, 1, logs, 0, 0)
            if verbose:
                _tell(logs, number + 1, self._max_iterations, time.monotonic() - began)
            callback_list.on_epoch_end(number, logs)
            if self._folder is not None:
                self._folder.save(descent.state)
            stopped = bool(model.stop_training)
        ending = descent.ending or Ending(
            False,
            "a callback has stopped it" if stopped else f"max_iterations={self._max_iterations}",
        )
        callback_list.on_train_end(logs)
        if verbose:
            log.info("L-BFGS: %s", ending.message)
        return Minimum(
            descent.loss,
            gradient,
            descent.iterations,
            descent.evaluations,
            ending.converged,
            ending.message,
            self._whole.ledger.copies,
            model.history,
        )

    def _begin(self) -> float:
        """Begins, or goes on where another run was; returns the gradient's largest value."""
        descent, folder = self._descent, self._folder
        state = None if folder is None else folder.restore()
        gradient = descent.begin()
        if folder is not None and state is not None:
            folder.check_loss(descent.loss, state)
            descent.go_on(state)
            log.info("L-BFGS: goes on after iteration %d", state.iterations)
        return gradient

    def _logs(self, made: Iteration) -> dict[str, float]:
        logs = {
            "loss": made.loss,
            "gradient": made.gradient,
            "step": made.step,
            "passes": float(made.evaluations),
        }
        if self._validation is not None:
            found = self._model.evaluate(**self._validation, verbose=0, return_dict=True)
            logs.update({f"val_{name}": value for name, value in found.items()})
        return logs


@contextlib.contextmanager
def _told_if_not_finite() -> Iterator[None]:
    try:
        yield
    except NotFinite as error:
        raise PlugError(
            f"the loss is {error.loss} and its gradient's largest value {error.largest} at the "
            "weights to begin from: give finite data, and weights at which the loss is finite"
        ) from None


@contextlib.contextmanager
def ended(whole: WholeBatch) -> Iterator[None]:
    """Waits for copies that are still on their way: they write to vectors that go after it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            whole.end()
        raise
    whole.end()


def _note_callbacks(when: str) -> None:
    note(f"in its callbacks, as {when}", "callbacks", alone=True)


def _tell(logs: Mapping[str, float], number: int, most: int, seconds: float) -> None:
    told = ", ".join(f"{name} {value:.6g}" for name, value in logs.items())
    log.info("L-BFGS: iteration %d of %d in %.2f s: %s", number, most, seconds, told)
