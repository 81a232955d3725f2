"""Tells how far a `fit` is, and has the seconds of its phases measured."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import keras

from tfdist.progress import teller
from tfdist.strategies import fit_clock, step_clock
from tfdist.structures import Logs

__all__ = ["fitting", "tell_epoch", "tell_steps", "tell_validation"]


@contextlib.contextmanager
def fitting(
    apart: Callable[[], Collection[str]],
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    epochs: int,
    steps: int | None,
    batch: int | None,
) -> Iterator[None]:
    """While a `fit` runs.

    Args:
        apart: which phases can be told apart; see `Family.tells_apart`.
        callbacks: those that run on this worker.
        epochs: their number.
        steps: of an epoch; None where nobody knows yet.
        batch: rows of a global batch; None where nobody knows yet.
    """
    if any(getattr(one, "wants_the_clock", False) for one in callbacks):
        step_clock.ready(exchanges=False)
    sizes = {"epochs": int(epochs), "steps": _count(steps), "batch": _count(batch)}
    with fit_clock.fitting(apart, **sizes):
        yield


def tell_epoch(epoch: int, step: int) -> None:
    """An epoch begins.

    Args:
        epoch: its number, from 0.
        step: steps that were taken of it before.
    """
    if (own := teller.teller()) is not None:
        own.update(epoch=int(epoch), step=int(step))


def tell_steps(
    step: int, steps: int | None, logs: Mapping[str, Any], count: int, rows: int
) -> None:
    """Steps were taken.

    Args:
        step: how many of the epoch, by now.
        steps: how many it has; None where nobody knows yet.
        logs: their metrics.
        count: how many were taken just now.
        rows: of the global batches of these.
    """
    if (own := teller.teller()) is not None:
        own.update(step=int(step), steps=_count(steps), logs=teller.numbers_of(logs))
        if count:
            own.saw_batch(math.ceil(rows / count))


def tell_validation(logs: Logs) -> Logs:
    """A validation has ended.

    Args:
        logs: its metrics.

    Returns:
        them by the names that `fit` gives them.
    """
    named = {f"val_{name}": value for name, value in logs.items()}
    if (own := teller.teller()) is not None:
        own.update(validation=teller.numbers_of(named))
    return named


def _count(number: int | None) -> int | None:
    """Python's own number, where a program has given NumPy's."""
    return None if number is None else int(number)
