"""How far apart rounding alone may bring two runs: measured, not chosen.

N workers add in another order than one process, and each step's difference is carried into the
next, where it grows, as the model's own dynamics have it: an Adam that divides a gradient of zero
by itself moves a weight by noise, and a sum of many numbers that cancel each other is little but
rounding. So the one-process run is made again, twice, with last bits changed by chance: those of
every weight before each step, and those of every output of a layer, forward and (as a factor)
backward (Monte Carlo arithmetic: Parker, 1997). What that changes in a number, up to a step, is
that number's own scale of rounding; it may be exceeded sixteen times (four bits), since another
order of adding is more than one bit. What it leaves as it
is may differ by eight units of the last place of the precision that the model computes with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

__all__ = ["Key", "Rounding", "distance"]

import numpy as np

Key = tuple[str, str]
"""What is compared, without its step: a stage and a name."""

UNITS = 8.0
"""Units of the last place that two sums in another order may differ by."""

TIMES = 16.0
"""How often what a changed last bit makes may be exceeded."""


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """How far two arrays are apart, relative to the larger one's length; infinite for shapes."""
    if one.shape != other.shape:
        return float("inf")
    if not one.size:
        return 0.0
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return 0.0 if np.array_equal(one, other, equal_nan=True) else float("inf")
    apart = float(np.linalg.norm((one - other).reshape(-1)))
    length = max(float(np.linalg.norm(one.reshape(-1))), float(np.linalg.norm(other.reshape(-1))))
    return apart / length if apart else 0.0


@dataclasses.dataclass
class Rounding:
    """What two runs may differ by.

    Attributes:
        eps: the relative rounding of the precision that the model computes with.
        spreads: of each key, by step (from 1): what changed last bits have changed.
    """

    eps: float = 2.0**-23
    spreads: dict[Key, dict[int, float]] = dataclasses.field(default_factory=dict)

    def learn(self, found: Sequence[tuple[int, Key, float]]) -> None:
        """Takes in how far a run with changed last bits was from the one without.

        Args:
            found: steps, keys and distances.
        """
        for step, key, size in found:
            if np.isfinite(size):
                steps = self.spreads.setdefault(key, {})
                steps[step] = max(steps.get(step, 0.0), size)

    def allowed(self, step: int, key: Key) -> float:
        """Returns how far a number may be apart in a step, relative."""
        steps = self.spreads.get(key, {})
        # What was changed for nothing in this step may show in the next one.
        spread = max((size for at, size in steps.items() if at <= step + 1), default=0.0)
        return max(UNITS * self.eps, TIMES * spread)
