"""L-BFGS without TensorFlow: as good as SciPy's, and it says why it ends."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from tests.optimize.numpy_vectors import (
    EXACT,
    Function,
    NumpyObjective,
    NumpyVectors,
    descend,
    logistic,
    quadratic,
    rosenbrock,
)
from tfdist.optimize.curvature import Curvature, Pair
from tfdist.optimize.descent import Descent, NotFinite, StopRule
from tfdist.optimize.vector_space import BEFORE, DIRECTION, FIXED, GRADIENT
from tfdist.optimize.wolfe_search import Wolfe


def _scipy(function: Function, start: np.ndarray) -> optimize.OptimizeResult:
    options = {"maxcor": 10, "ftol": 0.0, "gtol": 1e-9, "maxiter": 2000, "maxfun": 4000}
    return optimize.minimize(function, start, jac=True, method="L-BFGS-B", options=options)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 999), st.integers(1, 20), st.floats(0.0, 4.0))
def test_a_convex_function_has_scipys_minimum(seed: int, size: int, digits: float) -> None:
    function, lowest = quadratic(seed, size, 10**digits)
    objective, descent = descend(function, np.zeros(size))
    assert np.abs(objective.point - lowest).max() < 1e-6
    assert np.abs(objective.point - _scipy(function, np.zeros(size)).x).max() < 1e-6
    # The loss may be as low as its rounding lets it get before the gradient is as small as asked.
    assert descent.ending is not None


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.integers(5, 80), st.integers(1, 12))
def test_a_logistic_regression_is_scipys(seed: int, rows: int, size: int) -> None:
    function = logistic(seed, rows, size, 1e-2)
    objective, descent = descend(function, np.zeros(size))
    theirs = _scipy(function, np.zeros(size))
    assert np.abs(objective.point - theirs.x).max() < 1e-6
    assert descent.loss == pytest.approx(theirs.fun, abs=1e-12)


def test_it_takes_about_as_many_evaluations_as_scipy() -> None:
    ours, theirs = [], []
    for seed in range(10):
        function = logistic(seed, 300, 40, 1e-3)
        ours.append(descend(function, np.zeros(40))[1].evaluations)
        theirs.append(_scipy(function, np.zeros(40)).nfev)
    assert sum(ours) < 1.2 * sum(theirs)


@pytest.mark.parametrize("size", [2, 50])
def test_a_curved_valley_is_followed_to_its_end(size: int) -> None:
    start = np.tile([-1.2, 1.0], size // 2)
    objective, descent = descend(rosenbrock, start)
    assert descent.ending is not None
    assert descent.ending.converged
    assert np.abs(objective.point - 1).max() < 1e-8
    assert descent.evaluations < 1.5 * _scipy(rosenbrock, start).nfev


def test_the_two_loops_are_the_formula_of_bfgs() -> None:
    """Nocedal and Wright, equation 7.19, multiplied out; older pairs than the last are gone."""
    size, history = 6, 3
    rng = np.random.default_rng(1)
    spd = rng.normal(size=(size, size))
    matrix = spd @ spd.T + np.eye(size)
    vectors = NumpyVectors(FIXED + 2 * (history + 1), size)
    curvature = Curvature(vectors, history)
    pairs = []
    for _ in range(5):
        step, before = rng.normal(size=size), rng.normal(size=size)
        vectors.rows[DIRECTION], vectors.rows[BEFORE] = step, before
        vectors.rows[GRADIENT] = before + matrix @ (0.5 * step)
        assert curvature.keep(0.5, DIRECTION, GRADIENT, BEFORE)
        pairs.append((0.5 * step, matrix @ (0.5 * step)))
    s, y = pairs[-1]
    inverse = (s @ y) / (y @ y) * np.eye(size)
    for s, y in pairs[-history:]:
        left = np.eye(size) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    curvature.apply(GRADIENT, DIRECTION)
    wanted = -inverse @ vectors.rows[GRADIENT]
    np.testing.assert_allclose(vectors.rows[DIRECTION], wanted, rtol=1e-10)


def test_a_step_along_which_the_gradient_does_not_grow_costs_no_pair() -> None:
    vectors = NumpyVectors(FIXED + 4, 2)
    curvature = Curvature(vectors, 1)
    vectors.rows[:FIXED] = np.array([[0, 0], [2, 0], [1, 0], [1, 0]])
    assert curvature.keep(1.0, DIRECTION, GRADIENT, BEFORE)
    kept = list(curvature.pairs)
    vectors.rows[GRADIENT] = [0.5, 0]
    assert not curvature.keep(1.0, DIRECTION, GRADIENT, BEFORE)
    assert curvature.pairs == kept
    np.testing.assert_array_equal(vectors.rows[[kept[0].step, kept[0].change]], [[1, 0], [1, 0]])


def test_every_iteration_lowers_the_loss() -> None:
    objective = NumpyObjective(rosenbrock, np.array([-1.2, 1.0]))
    descent = Descent(objective, 10, EXACT, Wolfe())
    descent.begin()
    losses = [descent.loss]
    while (made := descent.advance()) is not None:
        losses.append(made.loss)
        assert objective.function(objective.point)[0] == made.loss
        gradient = objective.function(objective.point)[1]
        np.testing.assert_array_equal(objective.vectors.rows[GRADIENT], gradient)
    assert all(after < before for before, after in itertools.pairwise(losses))


def test_a_loss_that_is_not_finite_at_the_start_is_refused() -> None:
    with pytest.raises(NotFinite, match=r"a function of nan, with 0\.0 the largest"):
        descend(lambda x: (math.nan, np.zeros(1)), np.ones(1))


def test_a_loss_that_is_not_finite_on_the_way_is_gone_around() -> None:
    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        if x[0] <= 0:
            return math.nan, np.array([math.nan])
        return float(x[0] - math.log(x[0])), 1 - 1 / x

    objective, descent = descend(function, np.array([1e-3]))
    assert descent.ending is not None
    assert descent.ending.converged
    assert objective.point[0] == pytest.approx(1.0, abs=1e-8)


def test_a_wrong_gradient_leaves_the_weights_where_the_loss_was_lowest() -> None:
    objective, descent = descend(lambda x: (float(x @ x), -2 * x), np.array([1.0, 2.0]))
    assert descent.ending is not None
    assert not descent.ending.converged
    assert descent.ending.message.startswith("no step along the gradient lowers the loss")
    np.testing.assert_array_equal(objective.point, [1.0, 2.0])
    np.testing.assert_array_equal(objective.vectors.rows[GRADIENT], [-2.0, -4.0])
    assert descent.loss == 5.0
    assert descent.advance() is None


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (StopRule(1e-2, 0.0), StopRule(1e-8, 0.0)),
        (StopRule(0.0, 1e-3), StopRule(0.0, 1e-12)),
    ],
    ids=["tolerance", "loss_tolerance"],
)
def test_what_goes_on_has_arrived_by_its_own_rule(first: StopRule, then: StopRule) -> None:
    function = logistic(1, 100, 8, 1e-2)
    objective, descent = descend(function, np.zeros(8), stop=first)
    assert descent.ending is not None
    for rule, more in ((first, False), (then, True)):
        other = Descent(objective, 10, rule, Wolfe())
        other.begin()
        other.go_on(descent.state)
        assert (other.ending is None) == more
        assert (other.advance() is not None) == more
        assert more or other.ending == descent.ending


def test_a_minimum_at_the_start_takes_no_step() -> None:
    _, descent = descend(lambda x: (0.0, np.zeros(2)), np.ones(2))
    assert (descent.iterations, descent.evaluations) == (0, 1)
    assert descent.ending is not None
    assert descent.ending.converged


def test_a_loss_that_hardly_falls_has_converged() -> None:
    function, _ = quadratic(1, 10, 100.0)
    stop = StopRule(tolerance=0.0, loss_tolerance=1e-3)
    _, descent = descend(function, np.zeros(10), stop=stop)
    assert descent.ending is not None
    assert descent.ending.converged
    assert "loss_tolerance" in descent.ending.message


def test_it_goes_on_elsewhere_with_the_same_bits() -> None:
    start = np.tile([-1.2, 1.0], 3)
    whole, undisturbed = descend(rosenbrock, start)
    first = NumpyObjective(rosenbrock, start)
    descent = Descent(first, 10, EXACT, Wolfe())
    descent.begin()
    for _ in range(15):
        descent.advance()
    second = NumpyObjective(rosenbrock, first.point)
    second.vectors.rows[:] = first.vectors.rows
    went_on = Descent(second, 10, EXACT, Wolfe())
    went_on.go_on(descent.state)
    while went_on.advance() is not None:
        pass
    np.testing.assert_array_equal(whole.point, second.point)
    assert went_on.state == undisturbed.state


def test_a_point_that_somebody_has_moved_is_where_it_goes_on() -> None:
    function, lowest = quadratic(3, 8, 10.0)
    objective = NumpyObjective(function, np.zeros(8))
    descent = Descent(objective, 10, EXACT, Wolfe())
    descent.begin()
    for _ in range(3):
        descent.advance()
    objective.point = lowest + 5.0
    made = descent.advance()
    assert made is not None
    assert made.loss < function(lowest + 5.0)[0]
    assert descent.evaluations == len(objective.values)
    while descent.advance() is not None:
        pass
    assert np.abs(objective.point - lowest).max() < 1e-6


@pytest.mark.parametrize("wrong", [{"tolerance": -1.0}, {"loss_tolerance": math.nan}])
def test_tolerances_below_zero_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give a number of at least 0"):
        StopRule(**wrong)


def test_pairs_are_checked() -> None:
    for place, product, square in [(-1, 1.0, 1.0), (0, 0.0, 1.0), (0, 1.0, math.nan)]:
        with pytest.raises(ValueError, match="no pair"):
            Pair(place, product, square)
    with pytest.raises(ValueError, match="there must be one at least"):
        Curvature(NumpyVectors(4, 1), 0)
