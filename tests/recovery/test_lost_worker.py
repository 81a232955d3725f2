"""A worker of a parameter-server job is killed, and nothing is counted twice or lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RunJob


@pytest.mark.timeout(200)
def test_an_epoch_survives_the_death_of_a_worker(run_job: RunJob, tmp_path: Path) -> None:
    script = Path(__file__).with_name("lost_worker.py")
    rounds = 2
    arguments = ["--workers", 2, "--ps", 2, "--max_restarts", 4, script, tmp_path, rounds]
    ran = run_job(arguments, timeout=180)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == rounds
    for one in found:
        assert one["examples"] == one["expected"]
        assert 0 <= one["accuracy"] <= 1
        assert one["again"] >= 0
    assert "starting it again (2 of 4)" in ran.stdout + ran.stderr
