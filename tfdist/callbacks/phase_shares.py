"""Says what the time of each epoch went into."""

from __future__ import annotations

import keras

from tfdist.errors import PlugError
from tfdist.progress.phase_seconds import PhaseSeconds
from tfdist.strategies import fit_clock
from tfdist.structures import Logs
from tfdist.training.plugged import Plugged

__all__ = ["Phases"]


class Phases(keras.callbacks.Callback):
    """Adds what each epoch's time went into to its logs, as shares that add up to 1.

    Give it to `fit` on every worker; each measures itself. The shares stand in the `History`, on
    the line that the chief shows, and wherever logs go:

    - `phase_input`: steps had nothing to compute, as a batch was waited for. Input that is made
      while steps compute costs them nothing, and is not counted.
    - `phase_compute`: forward and backward passes, updates, validation (what it waits for is of the
      other phases, too), and in the first epoch what TensorFlow traces.
    - `phase_exchange`: a step had all of its gradients, and waited for those of other workers; or
      this worker waited where all meet. Whether the wire or a slow peer took the time, a worker
      cannot tell by itself: the slow one is that with the smallest share (`tfdist run` says so).
      What overlaps with computing is not counted.
    - `phase_callbacks`: the callbacks, but for what they save.
    - `phase_save`: training stood still for `Checkpoint`, or for a `save` of the model. What is
      written beside the training is not counted.

    What cannot be told from computing is counted there, and left out: the exchange on GPUs, between
    the devices of one process, with `virtual_replicas`, in a pipeline and under parameter servers,
    where the chief's `phase_compute` is the time for which it waits for workers; the input on GPUs
    (the host goes on to the next batch before a step has ended there), where the workers of
    parameter servers read their own, and with `run_eagerly`; but not where the number of batches is
    unknown, as Python reads these before the steps.

    An epoch ends where this callback is called: later callbacks, and a checkpoint that is kept
    there, are of the next one; what comes after the last is in `seconds` alone.

    Attributes:
        seconds: of each phase of the whole `fit`, by name; at its end all of it.

    Raises:
        PlugError: the model is not plugged.

    Example:
        >>> history = model.fit(dataset, epochs=5, callbacks=[tfdist.callbacks.Phases()])
        >>> history.history["phase_input"]
    """

    chunks_will_do = True
    wants_the_clock = True

    def __init__(self) -> None:
        super().__init__()
        self._before = PhaseSeconds()

    @property
    def seconds(self) -> dict[str, float]:
        """See above."""
        return {str(name): value for name, value in fit_clock.seconds().measured.items()}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begins to measure.

        Raises:
            PlugError: the model is not plugged.
        """
        if Plugged.of(self.model) is None:
            raise PlugError(
                "tfdist.callbacks.Phases with a model that is not plugged, whose loop is Keras' "
                "own and measures nothing: call tfdist.plug(model) before fit"
            )
        self._before = PhaseSeconds()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Adds the shares of the epoch to its logs."""
        now = fit_clock.seconds()
        shares = now.since(self._before).shares()
        self._before = now
        if logs is not None:
            logs.update({f"phase_{name}": share for name, share in shares.items()})
