"""The line search finds a step that meets the strong Wolfe conditions, or says there is none."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdist.optimize.wolfe_search import Found, Trial, Wolfe, search

Curve = Callable[[float], tuple[float, float]]


def _search(curve: Curve, first: float = 1.0, rule: Wolfe | None = None) -> Found:
    return search(lambda s: Trial(s, *curve(s)), Trial(0.0, *curve(0.0)), first, rule or Wolfe())


def _assert_met(curve: Curve, found: Found, rule: Wolfe) -> None:
    start = Trial(0.0, *curve(0.0))
    assert found.trial is not None
    bound = start.value + rule.decrease * found.trial.step * start.slope
    assert found.trial.value <= bound + rule.rounding * abs(start.value)
    assert abs(found.trial.slope) <= rule.curvature * abs(start.slope)
    assert found.last == found.trial.step


# More and Thuente, 1994, section 5: the six test functions and their parameters.


def _more_thuente_1(s: float, b: float = 2.0) -> tuple[float, float]:
    return -s / (s * s + b), (s * s - b) / (s * s + b) ** 2


def _more_thuente_2(s: float, b: float = 0.004) -> tuple[float, float]:
    return (s + b) ** 5 - 2 * (s + b) ** 4, 5 * (s + b) ** 4 - 8 * (s + b) ** 3


def _more_thuente_3(s: float, b: float = 0.01, c: float = 39) -> tuple[float, float]:
    if s <= 1 - b:
        value, slope = 1 - s, -1.0
    elif s >= 1 + b:
        value, slope = s - 1, 1.0
    else:
        value, slope = (s - 1) ** 2 / (2 * b) + b / 2, (s - 1) / b
    wave = c * math.pi / 2
    more = 2 * (1 - b) / (c * math.pi) * math.sin(wave * s)
    return value + more, slope + (1 - b) * math.cos(wave * s)


def _yanai(b1: float, b2: float) -> Curve:
    def curve(s: float) -> tuple[float, float]:
        c1, c2 = math.sqrt(1 + b1 * b1) - b1, math.sqrt(1 + b2 * b2) - b2
        r1, r2 = math.sqrt((1 - s) ** 2 + b2 * b2), math.sqrt(s * s + b1 * b1)
        return c1 * r1 + c2 * r2, -c1 * (1 - s) / r1 + c2 * s / r2

    return curve


@pytest.mark.parametrize("first", [1e-3, 1e-1, 1e1, 1e3])
@pytest.mark.parametrize(
    ("curve", "decrease", "curvature"),
    [
        (_more_thuente_1, 1e-3, 1e-1),
        (_more_thuente_2, 1e-1, 1.01e-1),
        (_more_thuente_3, 1e-1, 1.01e-1),
        (_yanai(0.001, 0.001), 1e-3, 2e-3),
        (_yanai(0.01, 0.001), 1e-3, 2e-3),
        (_yanai(0.001, 0.01), 1e-3, 2e-3),
    ],
    ids=["1", "2", "3", "4", "5", "6"],
)
def test_the_functions_of_more_and_thuente(
    curve: Curve, decrease: float, curvature: float, first: float
) -> None:
    rule = Wolfe(decrease, curvature, trials=60)
    found = _search(curve, first, rule)
    _assert_met(curve, found, rule)
    assert found.count <= 25


@given(
    st.floats(0.01, 100.0),
    st.floats(-3.0, 3.0),
    st.floats(0.0, 0.9),
    st.floats(-4.0, 3.0),
    st.floats(0.0, 6.0),
)
def test_a_wavy_bowl_has_a_step(
    scale: float, where: float, wave: float, first: float, phase: float
) -> None:
    lowest = 10.0**where

    def curve(s: float) -> tuple[float, float]:
        t = s / lowest
        value = 0.5 * (t - 1) ** 2 + 0.1 * wave * (math.sin(3 * t + phase) - math.sin(phase))
        slope = (t - 1) + 0.3 * wave * math.cos(3 * t + phase)
        return scale * value, scale * slope / lowest

    if curve(0.0)[1] >= 0:
        return
    rule = Wolfe(trials=60)
    _assert_met(curve, _search(curve, 10.0**first, rule), rule)


def test_a_step_that_is_right_at_once_is_taken() -> None:
    found = _search(lambda s: ((s - 1) ** 2, 2 * (s - 1)))
    assert (found.trial, found.count) == (Trial(1.0, 0.0, 0.0), 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_where_the_loss_is_not_finite_is_too_far(bad: float) -> None:
    def curve(s: float) -> tuple[float, float]:
        return (bad, bad) if s > 1e-3 else ((s - 5e-4) ** 2, 2 * (s - 5e-4))

    _assert_met(curve, _search(curve), Wolfe())


def test_a_loss_that_is_finite_with_a_slope_that_is_not_is_too_far() -> None:
    def curve(s: float) -> tuple[float, float]:
        return -s, math.nan if s > 0.5 else -1.0 + 2 * s

    found = _search(curve)
    assert found.trial is not None
    assert found.trial.step <= 0.5


def test_a_loss_that_only_rises_has_no_step() -> None:
    # The gradient is wrong: it says that the loss falls.
    found = _search(lambda s: (s, -1.0))
    assert found.trial is None
    assert found.count == Wolfe().trials


def test_a_loss_that_falls_for_ever_gives_its_longest_step() -> None:
    found = _search(lambda s: (-s, -1.0), rule=Wolfe(trials=5))
    assert found.trial is not None
    assert found.trial.step == found.last > 1
    assert found.count == 5


def test_the_lowest_step_is_given_where_trials_do_not_suffice() -> None:
    tried = []

    def curve(s: float) -> tuple[float, float]:
        tried.append((s, value := (s - 1) ** 4))
        return value, 4 * (s - 1) ** 3

    found = _search(curve, 1.9, Wolfe(1e-4, 1e-3, trials=3))
    assert found.trial is not None
    assert found.trial.value == min(value for step, value in tried if step)


def test_close_to_a_minimum_slopes_decide() -> None:
    noise = iter([1.0, 1.0 + 2e-16, 1.0 - 2e-16, 1.0, 1.0])

    def curve(s: float) -> tuple[float, float]:
        return next(noise), 1e-10 * (s - 1.2)

    found = _search(curve)
    assert found.trial is not None
    assert (found.trial.step, found.count) == (1.0, 1)


def test_a_value_that_is_higher_by_more_than_rounding_is_not_taken() -> None:
    found = _search(lambda s: (1.0 + 1e-12 * (s > 0), 1e-10 * (s - 1.2)))
    assert found.trial is None


@pytest.mark.parametrize(
    ("start", "first"),
    [
        (Trial(0.0, 1.0, 1.0), 1.0),
        (Trial(0.0, 1.0, 0.0), 1.0),
        (Trial(0.0, math.nan, -1.0), 1.0),
        (Trial(0.0, 1.0, -1.0), 0.0),
        (Trial(0.0, 1.0, -1.0), math.nan),
    ],
)
def test_what_is_no_descent_is_refused(start: Trial, first: float) -> None:
    with pytest.raises(ValueError, match=r"no direction of descent|a first step of"):
        search(lambda s: start, start, first, Wolfe())


@pytest.mark.parametrize(
    "wrong",
    [
        {"decrease": 0.0},
        {"decrease": 0.95},
        {"curvature": 1.0},
        {"trials": 0},
        {"trials": 2.0},
        {"rounding": -1.0},
    ],
)
def test_conditions_that_no_step_meets_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give"):
        Wolfe(**wrong)  # type: ignore[arg-type]


def test_it_tries_about_as_often_as_the_bowl_is_far() -> None:
    def curve(s: float) -> tuple[float, float]:
        return (s / 1e6 - 1) ** 2, 2e-6 * (s / 1e6 - 1)

    found = _search(curve, 1.0)
    _assert_met(curve, found, Wolfe())
    assert found.count <= int(np.log(1e6) / np.log(2)) + 2
