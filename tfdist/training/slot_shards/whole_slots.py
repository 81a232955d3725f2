"""Whole slots of optimizers whose own variables are shares, for whoever reads or writes a file."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np

__all__ = ["WholeSlots", "current", "shown"]

WholeSlots: TypeAlias = Mapping[int, np.ndarray]
"""By the identity of the `keras.Variable` that holds this replica's share."""


class _Shown(threading.local):
    slots: WholeSlots | None = None


_shown = _Shown()


def current() -> WholeSlots | None:
    """Returns what this thread is shown; None where nobody has gathered the slots."""
    return _shown.slots


@contextlib.contextmanager
def shown(slots: WholeSlots | None) -> Iterator[None]:
    """Shows whole slots to this thread meanwhile."""
    outer, _shown.slots = _shown.slots, slots
    try:
        yield
    finally:
        _shown.slots = outer
