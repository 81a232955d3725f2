"""Tells how far a `fit` is, and has the seconds of its phases measured."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence

import keras

from tfdist.progress import teller
from tfdist.strategies import fit_clock, step_clock
from tfdist.structures import Logs
from tfdist.training.data.stream import Stream
from tfdist.training.loop.family import Family

__all__ = ["fitting", "tell_epoch", "tell_steps"]


@contextlib.contextmanager
def fitting(
    family: Family, data: Stream, epochs: int, callbacks: Sequence[keras.callbacks.Callback]
) -> Iterator[None]:
    """While a `fit` runs.

    Args:
        family: what takes its steps.
        data: of the training.
        epochs: their number.
        callbacks: those that run on this worker.
    """
    if any(getattr(one, "wants_the_clock", False) for one in callbacks):
        step_clock.ready(exchanges=False)
    apart = functools.partial(family.tells_apart, data)
    sizes = {"steps": data.num_steps, "batch": data.batch_size}
    with fit_clock.fitting(apart, epochs=epochs, **sizes):
        yield


def tell_epoch(epoch: int, step: int) -> None:
    """An epoch begins.

    Args:
        epoch: its number, from 0.
        step: steps that were taken of it before.
    """
    if (own := teller.teller()) is not None:
        own.update(epoch=epoch, step=step)


def tell_steps(step: int, logs: Logs, data: Stream) -> None:
    """Steps were taken.

    Args:
        step: how many of the epoch, by now.
        logs: their metrics.
        data: of the training.
    """
    if (own := teller.teller()) is not None:
        own.update(step=step, steps=data.num_steps, logs=teller.numbers_of(logs))
