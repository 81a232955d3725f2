"""`tfdist.optimize.LBFGS`: trains a model by whole batches, on the workers of its job.

Source: Dean et al., "Large Scale Distributed Deep Networks", 2012, section 4.2 (Sandblaster
L-BFGS).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import keras
import numpy as np

from tfdist.compat import keras_data
from tfdist.errors import PlugError
from tfdist.given_numbers import is_count
from tfdist.optimize import minimizable
from tfdist.optimize.descent import Descent, StopRule
from tfdist.optimize.descent_folder import DescentFolder
from tfdist.optimize.descent_run import DescentRun, Minimum, ended
from tfdist.optimize.portion_crew import crew_of
from tfdist.optimize.portion_gradient import PortionGradient
from tfdist.optimize.portion_ledger import PortionLedger, slots_for
from tfdist.optimize.portions import Portions
from tfdist.optimize.server_vectors import ServerVectors
from tfdist.optimize.vector_space import FIXED
from tfdist.optimize.whole_batch import WholeBatch
from tfdist.optimize.wolfe_search import Wolfe
from tfdist.strategies import stall_watch
from tfdist.structures import Callbacks, Data
from tfdist.training.parameter_server.asynchronous import Asynchronous
from tfdist.training.plugged import Plugged
from tfdist.training.plugging import plug

__all__ = ["LBFGS", "Minimum", "Portions"]


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
        if not is_count(self.history):
            raise ValueError(f"history={self.history!r}: give a whole number of at least 1")
        if not isinstance(self.backups, bool):
            raise ValueError(f"backups={self.backups!r}: give True or False")
        self._stop_rule()
        self._wolfe()

    def _stop_rule(self) -> StopRule:
        return StopRule(self.tolerance, self.loss_tolerance)

    def _wolfe(self) -> Wolfe:
        return Wolfe(self.decrease, self.curvature, self.trials)

    def minimize(
        self,
        model: keras.Model,
        x: Data | Portions,
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
        It must be a mean over rows: one that sums over them, wherever, is refused. And it must be
        the same each time: a model with dropout, or with BatchNormalization that is not frozen, is
        refused. So is a dataset whose batches are others in each pass.

        Args:
            model: built or not, compiled with a loss; its optimizer is not used, and `optimizer=
                None` saves its slots. Made inside `strategy.scope()`, as for `fit`.
            x: arrays, a finite `tf.data.Dataset`, a `PyDataset`, or what else `fit` takes, which
                the chief reads and sends; or `Portions`, which the workers read. No function of
                `tf.distribute.InputContext`.
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
        if not is_count(max_iterations, least=0):
            raise ValueError(
                f"max_iterations={max_iterations!r}: give a whole number of at least 0"
            )
        if batch_size is not None and not is_count(batch_size):
            raise ValueError(
                f"batch_size={batch_size!r}: give a whole number of rows, at least 1, or None"
            )
        if not isinstance(model, keras.Model):
            raise PlugError(
                f"minimize takes a model that is to be trained: give a keras.Model, not "
                f"{type(model).__module__}.{type(model).__name__}"
            )
        plugged = Plugged.of(plug(model))
        assert plugged is not None
        minimizable.check_model(model)
        minimizable.check_callbacks(callbacks)
        source, sample = minimizable.source_of(
            plugged, x, y, sample_weight, class_weight, batch_size
        )
        family = plugged.family_for(sample)
        crew = crew_of(family)
        weights = minimizable.weights_of(model)
        validation = None
        if validation_data is not None:
            val_x, val_y, val_weight = keras_data.unpack(validation_data)
            validation = {
                "x": val_x,
                "y": val_y,
                "sample_weight": val_weight,
                "batch_size": validation_batch_size,
            }
        slots = slots_for(crew.workers, source.portions)
        history = int(self.history)
        vectors = ServerVectors(weights, FIXED + 2 * (history + 1), slots)
        device = family.device if isinstance(family, Asynchronous) else ""
        gradient = PortionGradient(model, vectors, slots, source, device)
        ledger = PortionLedger(crew.workers, slots, self.backups)
        whole = WholeBatch(vectors, gradient, crew, source, ledger)
        rounding = 4 * float(np.finfo(vectors.dtype.as_numpy_dtype).eps)
        wolfe = dataclasses.replace(self._wolfe(), rounding=rounding)
        descent = Descent(whole, history, self._stop_rule(), wolfe)
        folder = None if directory is None else DescentFolder(directory, model, vectors)
        run = DescentRun(model, descent, whole, int(max_iterations), validation, folder)
        with stall_watch.call("minimize"), family.working(), ended(whole):
            return run.go(callbacks, verbose)
