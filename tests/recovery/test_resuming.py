"""Nothing is lost when a worker is killed: the job started again ends as if it had not been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunJob

SCRIPT = Path(__file__).with_name("train.py")
EPOCHS = 5


@pytest.fixture(scope="module")
def undisturbed(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    ran = run_job(["--workers", 2, SCRIPT, folder, EPOCHS])
    assert ran.returncode == 0, ran.stderr
    result: dict[str, Any] = json.loads((folder / "result-0.json").read_text())
    return result


@pytest.mark.parametrize(
    "killed",
    [pytest.param(0, marks=pytest.mark.thorough), 1],
    ids=["the chief", "another worker"],
)
def test_a_killed_job_resumes_and_ends_the_same(
    killed: int, run_job: RunJob, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    first = run_job(["--workers", 2, SCRIPT, tmp_path, EPOCHS, killed, 3])
    assert first.returncode == 137, first.stderr
    assert f"the first failure: worker:{killed} was ended by SIGKILL" in first.stderr
    assert not list(tmp_path.glob("result-*.json"))

    second = run_job(["--workers", 2, SCRIPT, tmp_path, EPOCHS])
    assert second.returncode == 0, second.stderr
    assert "resuming after epoch 3" in second.stdout + second.stderr
    results = [json.loads((tmp_path / f"result-{i}.json").read_text()) for i in range(2)]
    assert results[0] == results[1]
    assert results[0]["epochs"] == [0, 1, 2, 3, 4]
    assert results[0] == undisturbed  # to the last bit
    assert not (tmp_path / "run-1").exists()  # the chief alone has written
