"""The examples that have no test of their own, each on another strategy, by flags alone."""

from __future__ import annotations

import re

import pytest

from tests.conftest import RunJob


@pytest.mark.parametrize(
    ("example", "launch", "flags", "told", "low", "high"),
    [
        pytest.param(
            "spam",
            ["--workers", "2", "--ps", "1"],
            ["--epochs", "3"],
            "accuracy",
            0.8,
            1.0,
            marks=pytest.mark.thorough,  # the README's script runs on servers, too
        ),
        pytest.param(
            "sunspots",
            ["--workers", "2"],
            ["--epochs", "3"],
            "MAE",
            10.0,
            20.0,
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            "denoise",
            ["--workers", "2", "--chief"],
            ["--strategy", "pipeline", "--epochs", "10"],
            "RMSE",
            0.1,
            0.22,  # of the noisy images: 0.23
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            "gpt",
            ["--workers", "2", "--chief"],
            ["--strategy", "pipeline"],
            "perplexity",
            5.0,
            9.0,  # after the first epoch: 13
            marks=[pytest.mark.thorough, pytest.mark.timeout(600)],
        ),
        pytest.param(
            "resnet",
            ["--workers", "2"],
            [],
            "accuracy",
            0.96,
            1.0,
            marks=[pytest.mark.thorough, pytest.mark.timeout(600)],
        ),
    ],
)
def test_an_example_runs_by_flags_alone(
    example: str,
    launch: list[str],
    flags: list[str],
    told: str,
    low: float,
    high: float,
    run_job: RunJob,
) -> None:
    done = run_job([*launch, "-m", f"tfdist.examples.{example}", *flags], timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    scores = re.findall(rf"test {told}: ([\d.]+)", done.stdout)
    assert len(scores) == 1, done.stdout
    assert low < float(scores[0]) < high
