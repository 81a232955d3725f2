"""How two runs of a job have ended, beside each other."""

from __future__ import annotations

import pytest

from tfdist.diagnose.job_outcome import JobOutcome


@pytest.mark.parametrize(
    ("iterations", "epochs", "verdict"),
    [
        ((48,), 3, "same counts"),
        ((49,), 3, "same counts, 1 update twice"),
        ((52,), 3, "same counts, 4 updates twice"),
        ((47,), 3, "differs"),
        ((48,), 2, "differs"),
        ((48, 48), 3, "differs"),
    ],
)
def test_other_bits_may_have_the_same_counts(
    iterations: tuple[int, ...], epochs: int, verdict: str
) -> None:
    expected = JobOutcome("a", (48,), 3)
    assert JobOutcome("b", iterations, epochs).compared_with(expected) == verdict


def test_the_same_bits_are_the_same() -> None:
    assert JobOutcome("a", (3,), 1).compared_with(JobOutcome("a", (3,), 1)) == "same bits"
