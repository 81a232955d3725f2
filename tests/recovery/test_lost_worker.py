"""A worker of a parameter-server job is killed, and nothing is counted twice or lost."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import RunJob
from tests.training.comparing import THOROUGH


@pytest.mark.timeout(200)
def test_an_epoch_survives_the_death_of_a_worker(run_job: RunJob, tmp_path: Path) -> None:
    script = Path(__file__).with_name("lost_worker.py")
    rounds = 2 if THOROUGH else 1
    arguments = ["--workers", 2, "--ps", 2, "--max_restarts", 4, script, tmp_path, rounds]
    ran = run_job(arguments, timeout=180)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == rounds
    for one in found:
        assert one["left"] > 0  # it was killed while there was something to do
        assert one["examples"] == one["expected"]
        assert 0 <= one["accuracy"] <= 1
        assert one["again"] == 0  # each of its updates was made once
    said = ran.stdout + ran.stderr
    again = re.findall(
        r"(worker:\d) was ended by (\w+) \(exit code (\d+).*; starting it (.*)", said
    )
    assert again == [
        (f"worker:{one['killed']}", "SIGKILL", "137", f"again ({number} of 4)")
        for number, one in enumerate(found, 1)
    ]
    # Who is killed again before it has come back cannot be missed a second time.
    killed = [f"worker:{one['killed']}" for one in found]
    gone = re.findall(r"(worker:\d) is gone", said)
    assert gone[0] == killed[0]
    assert set(gone) <= set(killed)
    assert len(re.findall(r"worker:\d is back \(process ", said)) <= len(gone)
    assert "Traceback" not in said


@pytest.mark.thorough
@pytest.mark.timeout(200)
def test_an_epoch_survives_a_worker_that_is_stopped_for_ever(
    run_job: RunJob, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("lost_worker.py")
    options = ["--workers", 2, "--ps", 1, "--max_restarts", 4, "--stall_timeout", 8]
    ran = run_job([*options, script, tmp_path, 2, "SIGSTOP"], timeout=180)
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said[-6000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == 2
    for one in found:
        assert one["left"] > 0
        assert one["examples"] == one["expected"]  # once, though the work was done again
        assert one["again"] == 0
        assert f"worker:{one['killed']} is dropped, as it says nothing any more" in said
        assert one["seconds"] < 60
