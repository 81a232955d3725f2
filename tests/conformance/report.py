"""What a run of Keras' tests has shown, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.conformance.verdict import Verdict

__all__ = ["table", "told"]


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """The counts, a line a strategy."""
    rows = [("", "pass", "explained", "not explained")]
    rows += [
        (v.strategy, str(len(v.passed)), str(len(v.explained)), str(len(v.unexplained)))
        for v in verdicts
    ]
    return [f"{a:12}{b:>6}{c:>12}{d:>16}" for a, b, c, d in rows]


def told(verdicts: Sequence[Verdict]) -> list[str]:
    """Each difference: those that are explained, those that are not, those no longer seen."""
    return [line for verdict in verdicts for line in _told(verdict)]


def _told(verdict: Verdict) -> Iterator[str]:
    for difference in dict.fromkeys(difference for _, difference in verdict.explained):
        tests = [test for test, reason in verdict.explained if reason == difference]
        yield f"{verdict.strategy}: explained, {len(tests)}: {difference.because}"
        yield from (f"    {test}" for test in tests)
    for test, why in verdict.unexplained:
        yield f"{verdict.strategy}: NOT EXPLAINED: {test}"
        yield from (f"    {line}" for line in why.splitlines()[:12])
    for difference in verdict.stale:
        yield f"{verdict.strategy}: no longer seen, take it off the list: {difference.because}"
        yield from (f"    {pattern}" for pattern in difference.tests)
