"""L-BFGS, step by step, on a function and vectors of which it knows scalars only.

Source: Nocedal and Wright, "Numerical Optimization", 2006, algorithm 7.5; when to stop, and how
long the first step is, as in L-BFGS-B of Zhu, Byrd, Lu and Nocedal (algorithm 778, 1997), which is
SciPy's `method="L-BFGS-B"`.
"""

from __future__ import annotations

import dataclasses
import math

from tfdist.given_numbers import is_number
from tfdist.optimize import wolfe_search
from tfdist.optimize.curvature import Curvature, Pair
from tfdist.optimize.vector_space import BEFORE, DIRECTION, GRADIENT, Objective
from tfdist.optimize.wolfe_search import Trial, Wolfe

__all__ = ["Descent", "DescentState", "Ending", "Iteration", "NotFinite", "StopRule"]


class NotFinite(ValueError):
    """The function cannot be minimized from where it begins.

    Attributes:
        loss: the function there.
        largest: the largest absolute value in its gradient.
    """

    def __init__(self, loss: float, largest: float) -> None:
        super().__init__(f"a function of {loss}, with {largest} the largest value of its gradient")
        self.loss = loss
        self.largest = largest


@dataclasses.dataclass(frozen=True)
class StopRule:
    """When a descent has arrived.

    Attributes:
        tolerance: the largest absolute value in the gradient that counts as none, at least 0.
        loss_tolerance: the decrease of the loss in one iteration, as a part of the largest of the
            loss before, the loss after, and 1, that counts as none; at least 0.

    Raises:
        ValueError: one is no such number.
    """

    tolerance: float = 1e-5
    loss_tolerance: float = 2.2e-9

    def __post_init__(self) -> None:
        for name in ("tolerance", "loss_tolerance"):
            value = getattr(self, name)
            if not (is_number(value, above=-math.inf) and value >= 0):
                raise ValueError(f"{name}={value!r}: give a number of at least 0")


@dataclasses.dataclass(frozen=True)
class Iteration:
    """One step of a descent.

    Attributes:
        number: from 1.
        loss: after it.
        gradient: the largest absolute value in the gradient after it.
        step: how many times the direction.
        evaluations: how often the function was measured for it.
    """

    number: int
    loss: float
    gradient: float
    step: float
    evaluations: int


@dataclasses.dataclass(frozen=True)
class Ending:
    """Why a descent goes no further.

    Attributes:
        converged: whether it has arrived.
        message: in words.
    """

    converged: bool
    message: str


@dataclasses.dataclass(frozen=True)
class DescentState:
    """What a descent knows beside its vectors and its point, to go on elsewhere.

    Attributes:
        iterations: how many it has made.
        evaluations: how often the function was measured.
        loss: at the point.
        pairs: of the history, the oldest first.
        decrease: of the loss in the last iteration, as `StopRule.loss_tolerance` is; None where
            it is not known.
    """

    iterations: int
    evaluations: int
    loss: float
    pairs: tuple[Pair, ...]
    decrease: float | None = None


class Descent:
    """Finds a minimum of a function.

    Args:
        objective: the function.
        history: how many pairs are kept, at least 1.
        stop: when it has arrived.
        wolfe: which steps will do.

    Attributes:
        iterations: how many there were.
        evaluations: how often the function was measured.
        loss: at the point.
        ending: why it goes no further; None while it does.
    """

    def __init__(self, objective: Objective, history: int, stop: StopRule, wolfe: Wolfe) -> None:
        self._objective = objective
        self._vectors = objective.vectors
        self._curvature = Curvature(objective.vectors, history)
        self._stop = stop
        self._wolfe = wolfe
        self.iterations = 0
        self.evaluations = 0
        self.loss = math.nan
        self.ending: Ending | None = None
        self._decrease: float | None = None

    @property
    def state(self) -> DescentState:
        """What to go on with."""
        pairs = tuple(self._curvature.pairs)
        return DescentState(self.iterations, self.evaluations, self.loss, pairs, self._decrease)

    def go_on(self, state: DescentState) -> None:
        """Goes on where another descent was, whose vectors and point are there again.

        Whether it has arrived is for this one's own rule to say, which may be another one.
        """
        self.iterations = state.iterations
        self.evaluations = state.evaluations
        self.loss = state.loss
        self._curvature.pairs = list(state.pairs)
        self._decrease = state.decrease
        self._look_at_decrease()

    def begin(self) -> float:
        """Measures the function where the point is; returns the gradient's largest value.

        Raises:
            NotFinite: it is not, or its gradient, there.
        """
        self.loss = self._objective.measure()
        self.evaluations += 1
        self._objective.note_base()
        largest = self._vectors.largest(GRADIENT)
        if not (math.isfinite(self.loss) and math.isfinite(largest)):
            raise NotFinite(self.loss, largest)
        self._look_at_gradient(largest)
        return largest

    def advance(self) -> Iteration | None:
        """Makes one iteration; None where there is none to make, and `ending` says why.

        Raises:
            NotFinite: somebody has moved the point to where the function is not.
        """
        if self.ending is not None:
            return None
        vectors, counted = self._vectors, self.evaluations
        if not self._objective.is_at_base() and not self._begin_anew():
            return None
        before = self.loss
        vectors.copy(GRADIENT, BEFORE)
        found = self._look_along()
        if found is None and self._curvature.pairs:
            self._curvature.clear()  # what it has learnt leads nowhere: the gradient itself may
            found = self._look_along()
        if found is None:
            self._objective.go(0.0)
            vectors.copy(BEFORE, GRADIENT)
            self.ending = Ending(
                False,
                "no step along the gradient lowers the loss: it is as low as its rounding lets it "
                "get, or it is not smooth",
            )
            return None
        self._curvature.keep(found.step, DIRECTION, GRADIENT, BEFORE)
        self._objective.note_base()
        self.loss = found.value
        self.iterations += 1
        largest = vectors.largest(GRADIENT)
        self._decrease = (before - self.loss) / max(abs(before), abs(self.loss), 1.0)
        self._look_at_gradient(largest)
        self._look_at_decrease()
        return Iteration(
            self.iterations, self.loss, largest, found.step, self.evaluations - counted
        )

    def _begin_anew(self) -> bool:
        """Begins where a callback has set the weights; returns whether there is a way to go."""
        self._curvature.clear()
        self.begin()
        return self.ending is None

    def _look_at_gradient(self, largest: float) -> None:
        if largest <= self._stop.tolerance:
            self.ending = Ending(
                True, f"the gradient's largest value is {largest:.3g}, at most tolerance"
            )

    def _look_at_decrease(self) -> None:
        decrease = self._decrease
        if self.ending is None and decrease is not None and decrease <= self._stop.loss_tolerance:
            self.ending = Ending(
                True, f"the loss has decreased by {decrease:.3g} of itself, at most loss_tolerance"
            )

    def _look_along(self) -> Trial | None:
        """Searches along the direction that the history gives; None where no step is lower."""
        vectors = self._vectors
        self._curvature.apply(BEFORE, DIRECTION)
        slope = vectors.dot(BEFORE, DIRECTION)
        start = Trial(0.0, self.loss, slope)
        if not (start.is_finite and slope < 0):
            return None
        first = 1.0 if self._curvature.pairs else min(1.0, 1.0 / math.sqrt(-slope))

        def try_step(step: float) -> Trial:
            self._objective.go(step)
            value = self._objective.measure()
            self.evaluations += 1
            return Trial(step, value, vectors.dot(GRADIENT, DIRECTION))

        found = wolfe_search.search(try_step, start, first, self._wolfe)
        trial = found.trial
        if trial is not None and trial.step != found.last:
            trial = try_step(trial.step)  # the weights and the gradient are another trial's
        return trial
