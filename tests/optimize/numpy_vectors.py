"""Vectors of NumPy, for the pure half of L-BFGS, and functions to minimize."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from tfdist.optimize.descent import Descent, StopRule
from tfdist.optimize.vector_space import BASE, DIRECTION, FIXED, GRADIENT
from tfdist.optimize.wolfe_search import Wolfe

Function: TypeAlias = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""From a point to the value and the gradient there."""

EXACT = StopRule(tolerance=1e-9, loss_tolerance=0.0)


class NumpyVectors:
    """Rows of an array."""

    def __init__(self, rows: int, size: int) -> None:
        self.rows = np.full([rows, size], np.nan)

    def dot(self, one: int, other: int) -> float:
        return float(self.rows[one] @ self.rows[other])

    def add(self, factor: float, one: int, to: int) -> None:
        self.rows[to] += factor * self.rows[one]

    def add_and_dot(self, factor: float, one: int, to: int, other: int) -> float:
        self.add(factor, one, to)
        return self.dot(other, to)

    def scale(self, factor: float, which: int) -> None:
        self.rows[which] *= factor

    def copy(self, source: int, target: int) -> None:
        self.rows[target] = self.rows[source]

    def largest(self, which: int) -> float:
        return float(np.abs(self.rows[which]).max())


class NumpyObjective:
    """A function of a NumPy array, at a point."""

    def __init__(self, function: Function, start: np.ndarray, history: int = 10) -> None:
        self.vectors = NumpyVectors(FIXED + 2 * (history + 1), len(start))
        self.function = function
        self.point = np.array(start, np.float64)
        self.values: list[float] = []

    def measure(self) -> float:
        value, self.vectors.rows[GRADIENT] = self.function(self.point)
        self.values.append(value)
        return value

    def note_base(self) -> None:
        self.vectors.rows[BASE] = self.point

    def is_at_base(self) -> bool:
        return np.array_equal(self.point, self.vectors.rows[BASE])

    def go(self, step: float) -> None:
        self.point = self.vectors.rows[BASE] + step * self.vectors.rows[DIRECTION]


def descend(
    function: Function,
    start: np.ndarray,
    *,
    history: int = 10,
    most: int = 1000,
    stop: StopRule = EXACT,
    wolfe: Wolfe | None = None,
) -> tuple[NumpyObjective, Descent]:
    """Minimizes a function to its end."""
    objective = NumpyObjective(function, start, history)
    descent = Descent(objective, history, stop, wolfe or Wolfe())
    descent.begin()
    while descent.iterations < most and descent.advance() is not None:
        pass
    return objective, descent


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Of any even number of variables; its minimum is 0, where all are 1."""
    a, b = x[::2], x[1::2]
    gradient = np.empty_like(x)
    gradient[::2] = -400 * a * (b - a * a) - 2 * (1 - a)
    gradient[1::2] = 200 * (b - a * a)
    return float(np.sum(100 * (b - a * a) ** 2 + (1 - a) ** 2)), gradient


def quadratic(seed: int, size: int, condition: float) -> tuple[Function, np.ndarray]:
    """A convex function, and where its minimum is."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(size, size)))
    matrix = axes @ np.diag(np.geomspace(1, condition, size)) @ axes.T
    lowest = rng.normal(size=size)

    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        gradient = matrix @ (x - lowest)
        return float(0.5 * (x - lowest) @ gradient), gradient

    return function, lowest


def logistic(seed: int, rows: int, size: int, weight: float) -> Function:
    """Logistic regression with a quadratic penalty: smooth and strongly convex."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, size))
    signs = np.where(rng.random(rows) < 0.5, -1.0, 1.0)

    def function(w: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (x @ w)
        value = np.mean(np.logaddexp(0.0, -margins)) + 0.5 * weight * w @ w
        slopes = -signs * np.exp(-np.logaddexp(0.0, margins))
        return float(value), x.T @ slopes / rows + weight * w

    return function
