"""Whether a program does on replicas what it does in plain Keras."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.training import comparing
from tests.training.comparing import Outcome
from tests.zoo.program import Program
from tfdist.errors import TfdistError

CLOSE = 1e-5
"""Relative in logs and histories, and in outputs to the largest of an array; absolute in weights
and optimizers' variables."""

SMALL = 1e-2
"""A number below this is compared as if it were as large: 1e-7 of absolute difference."""


@dataclass(frozen=True)
class Stopped:
    """A program that did not come to its end.

    Attributes:
        why: "refused: " and tfdist's reason, "failed: " and another error, or "wrong: " and what.
        trace: where it was stopped.
    """

    why: str
    trace: str = ""


@dataclass(frozen=True)
class Verdict:
    """What came out on one kind of replicas.

    Attributes:
        found: "equal", or "wrong: ", "refused: " or "failed: " and what.
        largest: the largest difference from plain Keras, where there is something to compare.
        trace: of what has stopped the program.
    """

    found: str
    largest: float | None = None
    trace: str = ""

    def __str__(self) -> str:
        return self.found if self.largest is None else f"{self.found} ({self.largest:.0e})"


def outcome_of(run: Callable[[], Outcome]) -> Outcome | Stopped:
    """Runs a program; returns what it left, or why it was stopped."""
    try:
        return run()
    except TfdistError as error:
        return Stopped(f"refused: {error}", traceback.format_exc())
    except AssertionError as error:  # the replicas' copies differ
        return Stopped(f"wrong: {_first_line(error)}", traceback.format_exc())
    except Exception as error:
        return Stopped(
            f"failed: {type(error).__name__}: {_first_line(error)}", traceback.format_exc()
        )


def on_replicas(program: Program, replicas: int) -> Outcome | Stopped:
    """Runs a program on so many logical CPUs."""
    return outcome_of(lambda: comparing.on_replicas(replicas, program.make, program.use))


def judged(plain: Outcome, others: Sequence[Outcome | Stopped]) -> Verdict:
    """Holds what came out against plain Keras.

    Args:
        plain: what plain Keras did.
        others: what each process did; all must have ended with the same, to the last bit.
    """
    first = others[0]
    if isinstance(first, Stopped):
        return Verdict(first.why, trace=first.trace)
    try:
        for other in others[1:]:
            if isinstance(other, Stopped):
                return Verdict(other.why, trace=other.trace)
            apart = _largest(first, other)
            if apart[0] > 0:
                return Verdict(f"wrong: the workers differ in {apart[1]}", apart[0])
        largest, where = _largest(plain, first)
    except AssertionError as error:
        return Verdict(f"wrong: {_first_line(error)}")
    return Verdict("equal" if largest <= CLOSE else f"wrong: {where}", largest)


def _largest(one: Outcome, other: Outcome) -> tuple[float, str]:
    """The largest difference and where it is; infinite where a number is not finite."""
    results, state = comparing.side_by_side(one, other)
    apart = [(_apart(a, b, np.max(np.abs(a), initial=SMALL)), path) for path, a, b in results]
    apart += [(_apart(a, b, 1.0), path) for path, a, b in state]
    return max(apart)


def _apart(a: Any, b: Any, scale: float) -> float:
    differences = np.abs(a - b) / scale
    return float(np.max(np.where(np.isfinite(differences), differences, np.inf), initial=0.0))


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
