"""Holds a run with plugged models against one of plain Keras, and says what is not explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.conformance.differences import Difference
from tests.conformance.results import Result

__all__ = ["Verdict", "comparable", "judge"]


@dataclass(frozen=True)
class Verdict:
    """The tests of one strategy, each in one of three lists.

    Args:
        strategy: "one_device" or "mirrored".
        passed: as in plain Keras.
        explained: failed, each with the difference that says why.
        unexplained: failed, each with its error.
        stale: listed differences for this strategy that no test showed.
    """

    strategy: str
    passed: list[str]
    explained: list[tuple[str, Difference]]
    unexplained: list[tuple[str, str]]
    stale: list[Difference]


def comparable(plain: Mapping[str, Result]) -> list[str]:
    """The tests that count: they pass in plain Keras, and use a model."""
    return [
        test for test, result in plain.items() if result.outcome == "passed" and result.models > 0
    ]


def judge(
    strategy: str,
    tests: Sequence[str],
    results: Mapping[str, Result],
    differences: Sequence[Difference],
    *,
    whole: bool = True,
) -> Verdict:
    """Sorts the tests of one strategy.

    Args:
        strategy: its kind.
        tests: the tests that count.
        results: what they did with plugged models; a test that is missing here did not run.
        differences: the committed list.
        whole: whether all tests were run: only then is a difference missed that no test showed.
    """
    passed: list[str] = []
    explained: list[tuple[str, Difference]] = []
    unexplained: list[tuple[str, str]] = []
    for test in tests:
        result = results.get(test, Result("failed", why="it did not run"))
        if result.outcome == "passed" and result.models > 0:
            passed.append(test)
            continue
        why = result.why or f"{result.outcome} without having used a model"
        reason = next((d for d in differences if d.explains(test, strategy, why)), None)
        if reason is None:
            unexplained.append((test, why))
        else:
            explained.append((test, reason))
    seen = [difference for _, difference in explained]
    stale = [d for d in differences if whole and strategy in d.on and d not in seen]
    return Verdict(strategy, passed, explained, unexplained, stale)
