"""What holds outcomes against each other sees every kind of difference."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.multi_worker.test_workers import assert_equal
from tests.training.comparing import Outcome, assert_same

PLAIN = Outcome({"loss": [1.0, 0.5]}, [np.ones((2, 3), "float32")], [np.zeros(2, "float32")])


def but(**changed: Any) -> Outcome:
    return dataclasses.replace(PLAIN, **changed)


def with_one(number: float) -> Outcome:
    weights = PLAIN.weights[0].copy()
    weights[1, 2] = number
    return but(weights=[weights])


def test_equal_outcomes_are_equal() -> None:
    assert_same(PLAIN, but())
    assert_same(PLAIN, but(result={"loss": [1.0 + 5e-6, 0.5]}))
    assert_same(PLAIN, with_one(1 + 1e-6))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (but(result={"loss": [1.0, 0.5001]}), r"result\['loss'\]\[1\]"),
        (but(result={"loss": [1.0]}), "1 instead of 2 entries"),
        (but(result={"loss": (1.0, 0.5)}), "tuple instead of list"),
        (but(result={"accuracy": [1.0, 0.5]}), r"\['accuracy'\] instead of \['loss'\]"),
        (with_one(1.00001), r"weights\[0\]"),
        (but(weights=[np.ones((3, 2), "float32")]), r"shape \(3, 2\) instead of \(2, 3\)"),
        (but(weights=[np.ones((2, 3))]), "float64 instead of float32"),
        (but(optimizer=[np.full(2, 1e-5, "float32")]), r"optimizer\[0\]"),
        (but(optimizer=[]), "0 instead of 1 entries"),
    ],
)
def test_a_difference_is_told_with_its_place(other: Outcome, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        assert_same(PLAIN, other)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_even_where_both_have_it(number: float) -> None:
    with pytest.raises(AssertionError, match=r"^weights\[0\]: not finite in plain Keras"):
        assert_same(with_one(number), with_one(number))
    with pytest.raises(AssertionError, match=r"^weights\[0\]: not finite in the other"):
        assert_same(PLAIN, with_one(number))
    lost = but(result={"loss": [1.0, number]})
    with pytest.raises(AssertionError, match=r"^result\['loss'\]\[1\]: not finite in plain"):
        assert_same(lost, lost)


def test_what_is_not_finite_may_be_asked_for() -> None:
    assert_same(with_one(np.nan), with_one(np.nan), finite=False)
    with pytest.raises(AssertionError, match=r"weights\[0\]"):
        assert_same(with_one(np.nan), PLAIN, finite=False)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_workers_that_have_come_to_nothing_are_not_equal(number: float) -> None:
    assert_equal({"loss": [1.0]}, {"loss": [1.0]}, 1e-5, 0.0, "result")
    for one, other in ((number, number), (1.0, number), (number, 1.0)):
        with pytest.raises(AssertionError, match=r"result\['loss'\]\[0\]"):
            assert_equal({"loss": [one]}, {"loss": [other]}, 1e-5, 0.0, "result")
