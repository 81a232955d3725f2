"""Whether one process does the same again: what does not cannot be compared with workers.

The runs with changed last bits would take a program's own chance for rounding, and allow it.
"""

from __future__ import annotations

import numpy as np

from tfdist.diagnose.verify.comparison import AFTER, BEFORE, GRADIENT, Difference, compare
from tfdist.diagnose.verify.gathered import Gathered
from tfdist.diagnose.verify.rounding import Rounding

__all__ = ["first_unrepeated"]

_GROWN = 0.01
"""Relative: what another order of adding (on a GPU) may have grown to after the first gradient."""


def first_unrepeated(one: Gathered, again: Gathered) -> Difference | None:
    """Returns the first number that a second run, with nothing changed, makes another one.

    Gradients and weights are measured against all of their step: one that is zero but for noise
    may be another wherever threads add in an order of their own, and is small beside the others.

    Args:
        one: a run in one process.
        again: the same again.
    """
    found = compare(one, again, Rounding(one.first.eps), only_first=False)
    for difference in found.differences:
        early = difference.step == 1 and difference.stage != AFTER
        size = difference.size
        if np.isfinite(size):
            size *= _part(difference, one)
        if size > (difference.allowed if early else _GROWN):
            return difference
    return None


def _part(difference: Difference, one: Gathered) -> float:
    """How long a gradient or weight is, relative to all of its step; 1 for others."""
    if difference.stage not in (BEFORE, GRADIENT, AFTER):
        return 1.0
    record = one.steps[difference.step - 1].each[0]
    numbers = {BEFORE: record.begin, GRADIENT: record.gradients, AFTER: record.end}
    arrays = numbers[difference.stage]
    lengths = {name: float(np.linalg.norm(array.reshape(-1))) for name, array in arrays.items()}
    whole = float(np.linalg.norm(list(lengths.values())))
    return lengths.get(difference.name, whole) / whole if whole else 1.0
