"""`tfdist.pipeline.measure`: when each slot of a real step begins and ends."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from tfdist.errors import PlugError
from tfdist.schedules.timings import Timings
from tfdist.structures import Data
from tfdist.training.data.arrays import as_tensors
from tfdist.training.pipelined.slot_stamps import slot_times
from tfdist.training.plugged import Plugged

__all__ = ["measure"]


def measure(model: keras.Model, batch: Iterable[Data], steps: int = 3) -> Timings:
    """Takes some training steps on one batch, and says when the slots of the last began and ended.

    The steps are real: the weights change, and metrics count them. Its clock stamps hold the slots
    a little more apart than `fit` does. Slots that were done in one go are given equal times.

    Args:
        model: a compiled model that was plugged under a pipeline strategy.
        batch: `(x, y)` or `(x, y, sample_weight)`: one global batch.
        steps: how many to take; the first ones warm up.

    Returns:
        The timings, for `tfdist.pipeline.draw`.

    Raises:
        PlugError: the model is not plugged, or not under a pipeline.
    """
    plugged = Plugged.of(model)
    if plugged is None:
        raise PlugError("the model is not plugged: tfdist.plug(model) before measuring it")
    data = as_tensors(tuple(batch))
    return slot_times(plugged._prepared(data).family, data, steps)
