"""A line search for a step that meets the strong Wolfe conditions.

    f(step) <= f(0) + decrease * step * f'(0)   and   |f'(step)| <= curvature * |f'(0)|

Source: Nocedal and Wright, "Numerical Optimization", 2006, algorithms 3.5 and 3.6, with the cubic
of equation 3.59. What is not a number, or infinite, is too far. An interval that shrinks too slowly
is halved, as in Moré and Thuente, "Line search algorithms with guaranteed sufficient decrease",
1994, section 4. Close to a minimum, where values differ by their rounding alone, the slopes decide:
a step is low enough, too, where f'(step) <= (2 * decrease - 1) * f'(0), which is the first
condition on a parabola (Hager and Zhang, "A new conjugate gradient method with guaranteed descent
and an efficient line search", 2005, equation 4.1).
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable

from tfdist.given_numbers import is_count, is_number

__all__ = ["Found", "Trial", "Wolfe", "search"]

_GROWTH = 4.0  # the longest next step, in steps
_EDGE = 0.1  # a trial keeps this part of the interval away from its ends
_SHRINKS = 0.66  # an interval that two trials have not made so small is halved
_TINY = 1e-16  # of the step: an interval in which there is no other number


@dataclasses.dataclass(frozen=True)
class Trial:
    """A step that was tried.

    Attributes:
        step: how far, in directions.
        value: of the function there.
        slope: of the function along the direction there.
    """

    step: float
    value: float
    slope: float

    @property
    def is_finite(self) -> bool:
        """Whether there is anything to compare."""
        return math.isfinite(self.value) and math.isfinite(self.slope)


@dataclasses.dataclass(frozen=True)
class Wolfe:
    """When a step will do.

    Attributes:
        decrease: how much of the decrease that the slope promises, from above 0 to below 1.
        curvature: how much of the slope may be left, from above `decrease` to below 1.
        trials: how many steps are tried at most, at least 1.
        rounding: by what part of itself a value may be wrong; at least 0.

    Raises:
        ValueError: no step could meet these.
    """

    decrease: float = 1e-4
    curvature: float = 0.9
    trials: int = 20
    rounding: float = 4 * sys.float_info.epsilon

    def __post_init__(self) -> None:
        parts = (self.decrease, self.curvature)
        if not (all(is_number(p, above=0) for p in parts) and parts[0] < parts[1] < 1):
            raise ValueError(
                f"decrease={self.decrease!r}, curvature={self.curvature!r}: give numbers with "
                "0 < decrease < curvature < 1"
            )
        if not is_count(self.trials):
            raise ValueError(f"trials={self.trials!r}: give a whole number of at least 1")
        if not self.rounding >= 0:
            raise ValueError(f"rounding={self.rounding!r}: give a part of at least 0")

    def is_low(self, trial: Trial, start: Trial) -> bool:
        """Whether a trial has decreased the function enough."""
        if not trial.is_finite:
            return False
        if trial.value <= start.value + self.decrease * trial.step * start.slope:
            return True
        is_level = abs(trial.value - start.value) <= self.rounding * abs(start.value)
        return is_level and trial.slope <= (2 * self.decrease - 1) * start.slope

    def is_met(self, trial: Trial, start: Trial) -> bool:
        """Whether a trial has, and has left little of the slope."""
        is_flat = abs(trial.slope) <= -self.curvature * start.slope
        return is_flat and self.is_low(trial, start)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        trial: the step to take; None where no step is lower.
        last: the step that was tried last, where the function has been left.
        count: how many were tried.
    """

    trial: Trial | None
    last: float
    count: int


def search(try_step: Callable[[float], Trial], start: Trial, first: float, rule: Wolfe) -> Found:
    """Looks for a step that meets the strong Wolfe conditions.

    Where `rule.trials` do not suffice, it is the lowest step that has decreased the function.

    Args:
        try_step: measures a step, above 0.
        start: the function at step 0, where it decreases.
        first: the step to try first, above 0.
        rule: when a step will do.

    Raises:
        ValueError: the start is not finite, the function does not decrease there, or `first` is no
            step.
    """
    if not (start.is_finite and start.slope < 0):
        raise ValueError(f"no direction of descent: {start}")
    if not (math.isfinite(first) and first > 0):
        raise ValueError(f"a first step of {first!r}: give a number above 0")
    return _Search(try_step, start, rule).run(first)


class _Search:
    """One search; `low` is the lowest step so far that has decreased the function enough."""

    def __init__(self, try_step: Callable[[float], Trial], start: Trial, rule: Wolfe) -> None:
        self._try_step = try_step
        self._start = start
        self._rule = rule
        self._count = 0
        self._last = 0.0
        self._low = start

    def _measure(self, step: float) -> Trial:
        self._count += 1
        self._last = step
        return self._try_step(step)

    @property
    def _has_trials(self) -> bool:
        return self._count < self._rule.trials

    def _found(self, trial: Trial | None = None) -> Found:
        if trial is None and self._low.step > 0:
            trial = self._low
        return Found(trial, self._last, self._count)

    def run(self, step: float) -> Found:
        """Goes farther until the function rises (algorithm 3.5)."""
        start, rule = self._start, self._rule
        while self._has_trials and math.isfinite(step):
            now = self._measure(step)
            if rule.is_met(now, start):
                return self._found(now)
            if not rule.is_low(now, start) or (self._count > 1 and not _is_lower(now, self._low)):
                return self._narrow(now)
            before, self._low = self._low, now
            if now.slope >= 0:
                return self._narrow(before)
            step = min(max(_lowest(before, now), 2 * step), _GROWTH * step)
        return self._found()

    def _narrow(self, other: Trial) -> Found:
        """Shrinks the interval from `low`, which falls towards it, to another (algorithm 3.6)."""
        start, rule = self._start, self._rule
        widths = [math.inf, math.inf]
        while self._has_trials:
            low = self._low
            width = other.step - low.step
            if abs(width) <= _TINY * max(abs(other.step), abs(low.step)):
                break
            step = low.step + 0.5 * width
            if other.is_finite and abs(width) <= _SHRINKS * widths[-2]:
                edge = _EDGE * abs(width)
                ends = sorted((low.step, other.step))
                step = min(max(_lowest(low, other), ends[0] + edge), ends[1] - edge)
            widths.append(abs(width))
            now = self._measure(step)
            if rule.is_met(now, start):
                return self._found(now)
            if not rule.is_low(now, start) or not _is_lower(now, low):
                other = now
                continue
            if now.slope * width >= 0:
                other = low
            self._low = now
        return self._found()


def _is_lower(now: Trial, low: Trial) -> bool:
    """Whether a trial is lower; of two that are equal to rounding the flatter one is."""
    return (now.value, abs(now.slope)) < (low.value, abs(low.slope))


def _lowest(one: Trial, other: Trial) -> float:
    """Where the cubic through two trials is lowest; their middle where it is nowhere."""
    middle = 0.5 * (one.step + other.step)
    width = other.step - one.step
    first = one.slope + other.slope - 3 * (one.value - other.value) / (one.step - other.step)
    root = first * first - one.slope * other.slope
    if not root >= 0:
        return middle
    second = math.copysign(math.sqrt(root), width)
    below = other.slope - one.slope + 2 * second
    if below == 0:
        return middle
    step = other.step - width * (other.slope + second - first) / below
    return step if math.isfinite(step) else middle
