"""Prediction by the workers of a parameter-server job: the outputs in the data's order."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfdist.errors import DataError
from tfdist.training.asynchronous import Asynchronous
from tfdist.training.data import SharedData
from tfdist.training.in_flight import InFlight
from tfdist.training.loop import Loop
from tfdist.training.stream import Step

__all__ = ["WorkersPrediction"]

_BATCHES = 32  # in one message, at most
_TICK_SECONDS = 1.0


class WorkersPrediction:
    """Predicts on the workers of one plugged model.

    Args:
        loop: the model's epoch loop.
        family: its family.
    """

    def __init__(self, loop: Loop, family: Asynchronous) -> None:
        self._loop = loop
        self._family = family
        self._model = loop.model

    def predict(self, data: SharedData, callbacks: Any, verbose: Any) -> Any:
        """Returns the outputs for every example of `data`, in its order."""
        pace, _, _ = self._loop.agree("predict", {}, callbacks, ("predict",))
        callback_list = self._loop.callback_list(callbacks, verbose, epochs=1, steps=data.num_steps)
        self._model.stop_predicting = False
        callback_list.on_predict_begin()
        flight = InFlight(self._family.coordinator)
        outputs: dict[Any, Any] = {}
        data.begin_epoch(self._family.tell)
        given, done, more = 0, 0, True
        while more or len(flight):
            while more and len(flight) < 2 * self._family.workers:
                count = min(pace.every or _BATCHES, self._share(data.left(given)))
                steps = data.take(count, self._family.tell) if count else []
                more = bool(steps) and not self._model.stop_predicting
                if steps:
                    self._family.predict([s.parts[0] for s in steps], flight, (given, len(steps)))
                given += len(steps)
            came = flight.wait(_TICK_SECONDS)
            if came is None:
                continue
            ((start, count), number), value = came
            outputs[start, number] = tf.nest.map_structure(np.asarray, value)
            callback_list.on_predict_batch_begin(done)
            done += count if number == 0 else 0
            callback_list.on_predict_batch_end(done - 1, {"outputs": outputs[start, number]})
        data.end_epoch()
        callback_list.on_predict_end()
        if not outputs:
            raise DataError("predict was given no data: the dataset is empty")
        in_order = [outputs[key] for key in sorted(outputs)]
        return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *in_order)

    def _share(self, left: int | None) -> int:
        """A part of what is left, such that every worker gets some."""
        return _BATCHES if left is None else -(-left // (2 * self._family.workers))

    def predict_batch(self, step: Step) -> Any:
        """Returns the outputs for one batch."""
        flight = InFlight(self._family.coordinator)
        self._family.predict([step.parts[0]], flight, (0, 1))
        while (came := flight.wait(_TICK_SECONDS)) is None:
            pass
        return tf.nest.map_structure(np.asarray, came[1])
