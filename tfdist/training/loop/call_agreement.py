"""What the workers make sure of before `fit`, `evaluate` and `predict`: that all do the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfdist.errors import DataError
from tfdist.structures import Callbacks
from tfdist.training.loop import callback_routing
from tfdist.training.loop.chunking import ChunkLength
from tfdist.training.loop.family import Family
from tfdist.training.loop.keeper import Cadence, keepers_among
from tfdist.training.mode import Mode

__all__ = ["Agreed", "agree", "tell_with_digest"]


@dataclasses.dataclass(frozen=True)
class Agreed:
    """What the workers have agreed on before a call.

    Attributes:
        paces: of the steps of each of two modes (the same twice for one).
        cadence: how often states are kept.
        restores: whether some worker's callbacks may restore the model.
        stops: whether some may stop between two steps.
        writes: whether some may write the model on the chief, where an epoch or the training ends.
    """

    paces: tuple[ChunkLength, ChunkLength]
    cadence: Cadence
    restores: bool
    stops: bool
    writes: bool


def agree(
    model: keras.Model,
    family: Family,
    what: str,
    wanted: Mapping[str, int],
    callbacks: Callbacks,
    modes: Sequence[Mode],
) -> Agreed:
    """Makes sure that every worker is about to do the same thing, and at the same pace.

    Args:
        model: the model.
        family: what takes its steps.
        what: the method, for the message.
        wanted: numbers that must be the same on every worker, by name.
        callbacks: this worker's callbacks; any worker's may ask for every batch.
        modes: "train", "test" or "predict": what steps will be taken.

    Raises:
        DataError: the workers called `fit` or `evaluate` with different arguments.
    """
    batches = [float(callback_routing.wants_every_batch(callbacks, mode)) for mode in modes]
    batches = batches if len(batches) == 2 else batches * 2
    cadence = Cadence.of(keepers_among(callback_routing.flat(callbacks)))
    restores = float(callback_routing.restores_the_model(callbacks))
    stops = float(callback_routing.may_stop_mid_epoch(callbacks))
    writes = float(callback_routing.writes_the_model(callbacks))
    each = float(model.steps_per_execution or 1)
    own = [*wanted.values(), *dataclasses.astuple(cadence), *batches, restores, stops, writes, each]
    table, digests = tell_with_digest(family, own)
    for column, name in enumerate(wanted):
        values = table[:, column]
        if (values != values[0]).any():
            given = ", ".join(f"worker {i}: {int(v)}" for i, v in enumerate(values))
            raise DataError(
                f"the workers called {what} with different arguments ({name}: {given}): every "
                "worker must run the same program on the same data"
            )
    epochs, steps, secs, *looks, restores, stops, writes, exact = table[:, len(wanted) :].max(
        axis=0
    )
    if not restores:  # else the chief's values are taken over anyway
        family.drift.check(digests)
    every = int(exact) if exact > 1 else None
    first, second = (
        ChunkLength(every or (1 if look else None), family.chunk_seconds) for look in looks
    )
    cadence = Cadence(int(epochs), int(steps), float(secs))
    return Agreed((first, second), cadence, restores > 0, stops > 0, writes > 0)


def tell_with_digest(
    family: Family, numbers: Sequence[float], training: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Shows this worker's numbers to all, and the digest of its model beside.

    Args:
        family: of the model.
        numbers: as many on every worker.
        training: see `DriftCheck.digest`.
    """
    table = family.all_gather([*numbers, *family.drift.digest(training)])
    told, digests = np.split(table, [len(numbers)], axis=1)
    return told, digests
