"""What each test did in one run, read from the lines that the plugin wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Result", "Results"]


@dataclass(frozen=True)
class Result:
    """What one test did.

    Args:
        outcome: "passed", "failed" or "skipped".
        models: how often it fitted, evaluated or asked a model for a prediction.
        why: the error of a test that failed.
    """

    outcome: str
    models: int = 0
    why: str = ""


@dataclass
class Results:
    """A run's results by test, those it has not come to, and the one it was at."""

    done: dict[str, Result] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    current: str | None = None

    @classmethod
    def of(cls, lines: Iterable[str]) -> Results:
        """Reads the lines of JSON; a last line that was cut off is left out."""
        results = cls()
        collected: list[str] = []
        for line in lines:
            try:
                told = json.loads(line)
            except json.JSONDecodeError:
                continue
            if "collected" in told:
                collected = told["collected"]
            elif "begins" in told:
                results.current = told["begins"]
            else:
                outcome = Result(told["outcome"], told["models"], told["why"])
                results.done[told["test"]] = outcome
                results.current = None
        results.left = [test for test in collected if test not in results.done]
        return results
