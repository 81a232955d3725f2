"""How many examples a second a job trains on, all workers together."""

from __future__ import annotations

from time import perf_counter

import keras

from tfdist.errors import PlugError
from tfdist.structures import Logs
from tfdist.training.plugged import Plugged

__all__ = ["ExamplesPerSecond"]


class ExamplesPerSecond(keras.callbacks.Callback):
    """Adds `examples_per_second` to the logs: in the progress bar, the history and TensorBoard.

    Counted are the examples of all workers on which steps have been taken, the last short batch as
    what it holds; each once, on the chief, whose history and bar alone have the number. The seconds
    are those from the beginning of an epoch to its last step: with the input, the callbacks between
    steps and, in a first epoch, the tracing; without validation and what callbacks do at the
    epoch's end. In a resumed epoch it is the speed since it was resumed.

    Give it before callbacks that are to see the number, such as `CSVLogger`.

    Args:
        name: of the number in the logs.

    Raises:
        PlugError: the model is not plugged.

    Example:
        >>> speed = tfdist.callbacks.ExamplesPerSecond()
        >>> model.fit(dataset, epochs=5, callbacks=[speed])
    """

    chief_only = True
    chunks_will_do = True

    def __init__(self, name: str = "examples_per_second") -> None:
        super().__init__()
        self.name = name
        self._began = self._ended = 0.0
        self._before = self._after = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Asks that the model is plugged.

        Raises:
            PlugError: it is not.
        """
        self._plugged()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Begins to count."""
        self._before = self._after = self._plugged().examples
        self._began = self._ended = perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Adds the speed so far to what the progress bar shows."""
        self._after = self._plugged().examples
        self._ended = perf_counter()
        self._tell(logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Adds the epoch's speed to its logs."""
        self._tell(logs)

    def _tell(self, logs: Logs | None) -> None:
        seconds = self._ended - self._began
        if logs is not None and seconds > 0:
            logs[self.name] = (self._after - self._before) / seconds

    def _plugged(self) -> Plugged:
        plugged = Plugged.of(self.model)
        if plugged is None:
            raise PlugError(
                "ExamplesPerSecond counts what the loop of a plugged model trains on: call "
                "tfdist.plug(model) before fit"
            )
        return plugged
