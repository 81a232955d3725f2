"""With virtual replicas a job has the same bits on any number of workers, and when that changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunJob

SCRIPT = Path(__file__).with_name("exact.py")
thorough = pytest.mark.thorough


def ended_with(
    run_job: RunJob, folder: Path, workers: int, *fault: object, code: int = 0
) -> dict[str, Any]:
    """Runs a job, or goes on with it; returns what the chief has at its end."""
    folder.mkdir(exist_ok=True)
    ran = run_job(["--workers", workers, "--threads", 1, SCRIPT, folder, "virtual", *fault])
    assert ran.returncode == code, ran.stderr
    (folder / "done").unlink(missing_ok=True)
    result = folder / "result-worker-0.json"
    assert result.exists() == (code == 0)
    return json.loads(result.read_text()) if code == 0 else {}


@pytest.fixture(scope="module")
def on_one(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ended_with(run_job, tmp_path_factory.mktemp("one"), 1)


@pytest.mark.parametrize("workers", [3, *(pytest.param(n, marks=thorough) for n in (2, 4))])
def test_any_number_of_workers_has_the_same_bits(
    workers: int, on_one: dict[str, Any], run_job: RunJob, tmp_path: Path
) -> None:
    found = ended_with(run_job, tmp_path, workers)
    assert found["values"] == on_one["values"]  # every bit: weights, statistics, slots
    assert found["iterations"] == 4 * 7
    assert found["losses"] == pytest.approx(on_one["losses"], rel=1e-6)


@thorough
def test_one_run_on_one_then_four_then_two_then_three_workers(
    on_one: dict[str, Any], run_job: RunJob, tmp_path: Path
) -> None:
    for workers, epoch, step in ((1, 0, 3), (4, 1, 2), (2, 2, 4)):
        ended_with(run_job, tmp_path, workers, "worker:0", epoch, step, "SIGTERM", code=75)
    found = ended_with(run_job, tmp_path, 3)
    assert found["values"] == on_one["values"]
    assert found["history"]["loss"] == pytest.approx(on_one["history"]["loss"], rel=1e-6)
