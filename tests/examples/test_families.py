"""The examples that have no test of their own, each on another strategy, by flags alone."""

from __future__ import annotations

import re

import pytest

from tests.conftest import RunJob


@pytest.mark.parametrize(
    ("example", "launch", "flags", "told", "at_best", "at_worst"),
    [
        ("spam", ["--workers", "2", "--ps", "1"], [], "accuracy", 1.0, 0.8),
        ("sunspots", ["--workers", "2"], [], "MAE", 10.0, 20.0),
        (
            "denoise",
            ["--workers", "2", "--chief"],
            ["--strategy", "pipeline", "--epochs", "8"],
            "RMSE",
            0.1,
            0.22,
        ),
    ],
)
def test_an_example_runs_by_flags_alone(
    example: str,
    launch: list[str],
    flags: list[str],
    told: str,
    at_best: float,
    at_worst: float,
    run_job: RunJob,
) -> None:
    done = run_job([*launch, "-m", f"tfdist.examples.{example}", "--epochs", "3", *flags])
    assert done.returncode == 0, done.stdout + done.stderr
    scores = re.findall(rf"test {told}: ([\d.]+)", done.stdout)
    assert len(scores) == 1, done.stdout
    low, high = sorted([at_best, at_worst])
    assert low < float(scores[0]) < high
