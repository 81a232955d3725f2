"""`tfdist.optimize.LBFGS`: trains a model by whole batches, on the workers of its job.

Source: Dean et al., "Large Scale Distributed Deep Networks", 2012, section 4.2 (Sandblaster
L-BFGS).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist import log
from tfdist.compat import keras_data, keras_trainer
from tfdist.errors import DataError, PlugError
from tfdist.optimize.descent import Descent, Ending, Iteration, NotFinite, StopRule
from tfdist.optimize.descent_folder import DescentFolder
from tfdist.optimize.portion_crew import OneProcess, PortionCrew, WorkerCrew
from tfdist.optimize.portion_gradient import PortionGradient
from tfdist.optimize.portion_ledger import PortionLedger, slots_for
from tfdist.optimize.server_vectors import ServerVectors
from tfdist.optimize.vector_space import FIXED
from tfdist.optimize.whole_batch import WholeBatch
from tfdist.optimize.wolfe_search import Wolfe
from tfdist.structures import Callbacks, Data
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.loop import callback_routing
from tfdist.training.loop.family import Family
from tfdist.training.loop.keeper import keepers_among
from tfdist.training.model_parts import unique
from tfdist.training.parameter_server.asynchronous import Asynchronous
from tfdist.training.plug_options import TrainingOptions
from tfdist.training.plugged import Plugged

__all__ = ["LBFGS", "Minimum"]

_LEAST_ROWS = 32
_MOST_PORTIONS = 256


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


@dataclasses.dataclass(frozen=True)
class LBFGS:
    """L-BFGS on all of the data: for losses that are smooth and the same each time.

    Each iteration computes the loss of the whole data and its gradient, goes along a direction that
    the last steps have taught, and searches there for a step that meets the strong Wolfe
    conditions. It has no learning rate.

    On parameter servers the data are cut into many small portions, which workers take as they are
    free; a portion that is late is handed out a second time, and counts once. Weights, gradients
    and the history stay on the ps tasks, each beside the weights that it belongs to: the chief
    sends commands and sees scalars. Portions are summed in one order, so that the weights have the
    same bits with any number of workers, whoever was slow or lost, on machines that compute alike.

    It also works in one process: with one device, or without a strategy.

    Args:
        history: how many of the last steps it learns from, at least 1. Each costs two copies of
            the weights on the servers.
        tolerance: it has converged where no value of the gradient is larger than this.
        loss_tolerance: or where an iteration lowers the loss by no more than this part of it (of 1,
            where the loss is below 1).
        decrease: of the Wolfe conditions: how much of the decrease that the slope promises a step
            must bring.
        curvature: of the Wolfe conditions: how much of the slope may be left after a step.
        trials: how many steps an iteration tries at most; each is a pass over the data.
        backups: whether late portions are handed out a second time.

    Raises:
        ValueError: one of them is out of its range.

    Example:
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        ...     model.compile(optimizer=None, loss=loss)
        >>> found = tfdist.optimize.LBFGS().minimize(model, x, y, max_iterations=200)
        >>> found.converged, found.loss
    """

    history: int = 10
    tolerance: float = 1e-5
    loss_tolerance: float = 2.2e-9
    decrease: float = 1e-4
    curvature: float = 0.9
    trials: int = 20
    backups: bool = True

    def __post_init__(self) -> None:
        if type(self.history) is not int or self.history < 1:
            raise ValueError(f"history={self.history!r}: give a number of at least 1")
        self._stop_rule()
        self._wolfe()

    def _stop_rule(self) -> StopRule:
        return StopRule(self.tolerance, self.loss_tolerance)

    def _wolfe(self) -> Wolfe:
        return Wolfe(self.decrease, self.curvature, self.trials)

    def minimize(
        self,
        model: keras.Model,
        x: Data,
        y: Data = None,
        *,
        sample_weight: Data = None,
        class_weight: Mapping[int, float] | None = None,
        batch_size: int | None = None,
        max_iterations: int = 100,
        validation_data: Data = None,
        validation_batch_size: int | None = None,
        callbacks: Callbacks = None,
        directory: str | os.PathLike[str] | None = None,
        verbose: int | str = "auto",
    ) -> Minimum:
        """Trains a model until its loss is lowest.

        The loss is that of `compile`, with `add_loss` and regularizers, of all rows as one batch.
        It must be the same each time: a model with dropout, or with BatchNormalization that is not
        frozen, is refused. So is a dataset whose batches are others in each pass.

        Args:
            model: built or not, compiled with a loss; its optimizer is not used, and `optimizer=
                None` saves its slots. Made inside `strategy.scope()`, as for `fit`.
            x: arrays, a finite `tf.data.Dataset`, a `PyDataset`, or what else `fit` takes; but no
                function of `tf.distribute.InputContext`.
            y: targets, as in `fit`.
            sample_weight: as in `fit`.
            class_weight: as in `fit`.
            batch_size: rows of a portion, where `x` is no dataset (whose batches are the portions).
                By default a 256th of the rows, and at least 32. It changes how fast an iteration
                is, and the loss by rounding only.
            max_iterations: how many steps it takes at most, at least 0.
            validation_data: as in `fit`; evaluated after each iteration.
            validation_batch_size: as in `fit`.
            callbacks: as in `fit`: an epoch is an iteration, and there are no batches. Logs are
                "loss", "gradient" (its largest absolute value), "step", "passes" over the data,
                and those of the validation.
            directory: where weights, vectors and the rest of the descent are kept after each
                iteration; the chief and all ps tasks must see it. A job that is started again goes
                on there, with the bits of one that was not disturbed; the history begins anew.
            verbose: 0 for silence, else one line an iteration.

        Returns:
            What was found.

        Raises:
            PlugError: the model's loss is none that L-BFGS can minimize, or its strategy none on
                which it works.
            DataError: the data are others in the second pass, never end, or are no data.
            CheckpointError: the directory cannot be written, or what it holds is of another model,
                job or loss.
            ValueError: an argument is out of its range.
        """
        if type(max_iterations) is not int or max_iterations < 0:
            raise ValueError(f"max_iterations={max_iterations!r}: give a number of at least 0")
        if not isinstance(model, keras.Model):
            raise PlugError(
                f"minimize takes a keras.Model, not {type(model).__module__}.{type(model).__name__}"
            )
        plugged = Plugged.of(model) or Plugged(model, TrainingOptions())
        _check_model(model)
        _check_callbacks(callbacks)
        data = _read(plugged, x, y, sample_weight, class_weight, batch_size)
        family = plugged.family_for(data.sample_batch())
        crew = _crew_of(family)
        weights = _weights_of(model)
        validation = None
        if validation_data is not None:
            val_x, val_y, val_weight = keras_data.unpack(validation_data)
            validation = {
                "x": val_x,
                "y": val_y,
                "sample_weight": val_weight,
                "batch_size": validation_batch_size,
            }
        slots = slots_for(crew.workers, data.num_steps)
        vectors = ServerVectors(weights, FIXED + 2 * (self.history + 1), slots)
        device = family.device if isinstance(family, Asynchronous) else ""
        gradient = PortionGradient(model, vectors, slots, device)
        ledger = PortionLedger(crew.workers, slots, self.backups)
        whole = WholeBatch(vectors, gradient, crew, data, ledger, is_fixed=_has_rows(x))
        rounding = 4 * float(np.finfo(vectors.dtype.as_numpy_dtype).eps)
        wolfe = dataclasses.replace(self._wolfe(), rounding=rounding)
        descent = Descent(whole, self.history, self._stop_rule(), wolfe)
        folder = None if directory is None else DescentFolder(directory, model, vectors)
        run = _Run(model, descent, whole, max_iterations, validation, folder)
        with family.working(), _ended(whole):
            return run.go(callbacks, verbose)


class _Run:
    """One call of `minimize`."""

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
        """Takes iterations until there are enough."""
        model, descent = self._model, self._descent
        callback_list = keras.callbacks.CallbackList(
            callback_routing.callbacks_for(callbacks, True),
            add_history=True,
            verbose=verbose,
            epochs=self._max_iterations,
            model=model,
        )
        model.stop_training = False
        callback_list.on_train_begin()
        gradient = self._begin()
        rows = self._whole.rows
        if verbose:
            log.info("L-BFGS: %s rows, loss %.6g", f"{rows:,.0f}", descent.loss)
        logs: dict[str, float] = {}
        stopped = False
        while descent.ending is None and descent.iterations < self._max_iterations and not stopped:
            number = descent.iterations
            callback_list.on_epoch_begin(number)
            began = time.monotonic()
            made = descent.advance()
            if made is None:
                break
            gradient = made.gradient
            logs = self._logs(made)
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
        try:
            gradient = descent.begin()
        except NotFinite as error:
            raise PlugError(str(error)) from None
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
def _ended(whole: WholeBatch) -> Iterator[None]:
    """Waits for copies that are still on their way: they write to vectors that go after it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            whole.end()
        raise
    whole.end()


def _tell(logs: Mapping[str, float], number: int, most: int, seconds: float) -> None:
    told = ", ".join(f"{name} {value:.6g}" for name, value in logs.items())
    log.info("L-BFGS: iteration %d of %d in %.2f s: %s", number, most, seconds, told)


def _read(
    plugged: Plugged,
    x: Data,
    y: Data,
    sample_weight: Data,
    class_weight: Mapping[int, float] | None,
    batch_size: int | None,
) -> GlobalBatches:
    """The data as portions, in their order."""
    if callable(x) and not isinstance(x, keras.utils.PyDataset | tf.data.Dataset):
        raise DataError(
            "minimize was given a function; any worker may be handed any portion, so that it takes "
            "data that the chief reads: give arrays or a dataset"
        )
    if batch_size is None and _has_rows(x):
        rows = int(keras.tree.flatten(x)[0].shape[0])
        batch_size = max(_LEAST_ROWS, -(-rows // _MOST_PORTIONS))
    data = GlobalBatches(
        plugged.layout,
        x,
        y,
        sample_weight,
        batch_size=batch_size,
        class_weight=class_weight,
    )
    if int(data.source.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise DataError(
            "minimize was given a dataset that never ends, but it reads all of it in every pass: "
            "leave out its .repeat()"
        )
    return data


def _has_rows(x: Data) -> bool:
    leaves = keras.tree.flatten(x)
    return all(isinstance(leaf, np.ndarray | tf.Tensor) and leaf.shape for leaf in leaves)


def _check_model(model: keras.Model) -> None:
    """Checks that a model has a loss, and that Keras' own step would take it.

    Raises:
        PlugError: it has a step of its own.
        ValueError: it is not compiled.
    """
    if not model.compiled:
        raise ValueError("You must call `compile()` before calling `minimize()`.")
    if keras_trainer.overrides(model, "train_step"):
        raise PlugError(
            f"{type(model).__name__} has a train_step of its own, which L-BFGS would not call: put "
            "the loss into compute_loss, which it calls, or use fit"
        )


def _check_callbacks(callbacks: Callbacks) -> None:
    flat = callback_routing.flat(callbacks)
    own = [*keepers_among(flat), *(c for c in flat if callback_routing.restores_the_model(c))]
    if own:
        raise PlugError(
            f"{type(own[0]).__name__} keeps the state of a fit, of which minimize has none: give "
            "keras.callbacks.ModelCheckpoint, which saves the model"
        )


def _crew_of(family: Family) -> PortionCrew:
    if isinstance(family, Asynchronous):
        return WorkerCrew(family)
    if family.layout.workers == 1 and family.layout.replicas == 1:
        return OneProcess()
    raise PlugError(
        f"L-BFGS on {family.layout.replicas} replicas in step: it works on parameter servers, or "
        'in one process; use tfdist.strategy("parameter_server") or tfdist.strategy("one_device")'
    )


def _weights_of(model: keras.Model) -> list[keras.Variable]:
    weights = unique(model.trainable_variables)
    dtypes = sorted({keras.backend.standardize_dtype(v.dtype) for v in weights})
    if not weights:
        raise PlugError(
            "the model has nothing to train: all of its layers are frozen, or have none"
        )
    if len(dtypes) > 1 or dtypes[0] not in ("float32", "float64"):
        raise PlugError(
            f"trainable weights of {' and '.join(dtypes)}: L-BFGS computes with vectors of all "
            "weights; make the model with float32, or with float64"
        )
    return weights
