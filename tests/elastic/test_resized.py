"""A job that is killed goes on with another number of workers: every example once an epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import RunJob
from tests.elastic.changing_sizes import SCRIPT
from tests.elastic.seen import examples_of_steps, workers_of_steps

ROWS, EPOCHS, STEPS = 105, 4, 7


@pytest.fixture(scope="module")
def undisturbed(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process ends with that nobody disturbs, and what it saw in each step."""
    folder = tmp_path_factory.mktemp("one")
    ran = run_job(["--workers", 1, SCRIPT, folder])
    assert ran.returncode == 0, ran.stderr
    return {**json.loads((folder / "result.json").read_text()), "seen": examples_of_steps(folder)}


def check(folder: Path, undisturbed: dict[str, Any]) -> None:
    """Every step saw the examples of one process' step, and all of it came to its numbers."""
    seen = examples_of_steps(folder)
    assert seen == undisturbed["seen"]
    for epoch in range(EPOCHS):
        steps = range(epoch * STEPS, (epoch + 1) * STEPS)
        assert sorted(n for step in steps for n in seen[step]) == list(range(ROWS))
    result = json.loads((folder / "result.json").read_text())
    assert result["epochs"] == undisturbed["epochs"]
    assert result["iterations"] == EPOCHS * STEPS
    for name, values in undisturbed["history"].items():
        np.testing.assert_allclose(result["history"][name], values, rtol=1e-5)
    np.testing.assert_allclose(result["losses"], undisturbed["losses"], rtol=1e-5)
    for mine, one in zip(result["values"], undisturbed["values"], strict=True):
        np.testing.assert_allclose(mine, one, rtol=1e-4, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_two_then_three_then_one(
    run_job: RunJob, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """The global batch of 16 is shared out over 3 as 6, 5 and 5."""
    first = run_job(["--workers", 2, SCRIPT, tmp_path, "worker:1", 1, 3])
    assert first.returncode == 137, first.stderr
    second = run_job(["--workers", 3, SCRIPT, tmp_path, "worker:2", 2, 4])
    assert second.returncode == 137, second.stderr
    assert "resuming after epoch 1 and 2 steps" in second.stdout + second.stderr
    third = run_job(["--workers", 1, SCRIPT, tmp_path])
    assert third.returncode == 0, third.stderr
    assert "resuming after epoch 2 and 4 steps" in third.stdout + third.stderr
    check(tmp_path, undisturbed)
    assert set(workers_of_steps(tmp_path).values()) == {1, 2, 3}
