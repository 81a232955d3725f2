"""What counts as a number where a user gives one: Python's or NumPy's, and no truth value."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TypeGuard, cast

__all__ = ["is_count", "is_number", "is_wait"]

_LARGEST = 2**63 - 1

_LONGEST_WAIT = 1e9
"""Seconds: 31 years. Tasks tell each other how long they wait, and infinity is no JSON."""


def is_count(value: object, least: int = 1) -> TypeGuard[int]:
    """Tells whether a value is a whole number of at least `least`, and no larger than int64 holds.

    Example:
        >>> is_count(2), is_count(2.0), is_count(True), is_count(0)
        (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return least <= int(value) <= _LARGEST


def is_number(value: object, above: float) -> TypeGuard[float]:
    """Tells whether a value is a number above another one, which may be infinite; NaN is not.

    Example:
        >>> is_number(0.5, above=0), is_number("1", above=0), is_number(float("nan"), above=0)
        (True, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return bool(cast(float, value) > above)  # no float holds every integer that there is


def is_wait(value: object) -> TypeGuard[float]:
    """Tells whether a value is a number of seconds that somebody can wait: above 0, below 1e9.

    Example:
        >>> is_wait(0.5), is_wait(0), is_wait(float("inf"))
        (True, False, False)
    """
    return is_number(value, above=0) and bool(value < _LONGEST_WAIT)
