"""Who comes as a training is over, or nearly, is taken into the next one, and ends nobody."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import RunJob
from tests.elastic.launchers import Launchers

pytestmark = pytest.mark.timeout(120)
SCRIPT = Path(__file__).with_name("joined_late.py")


def test_who_comes_in_the_last_validation_ends_nobody(tmp_path: Path) -> None:
    options = ["--workers", "1:2", "--settle", 1, "--max_restarts", 0]
    places = ["worker:0", "worker:1"]
    with Launchers(tmp_path, places, options, [SCRIPT, tmp_path]) as job:
        job.start("worker:0")
        job.wait_until((tmp_path / "validates").exists, "the validation", 60)
        job.start("worker:1")
        job.wait_for("worker:0", "worker:1 can take part", 30)
        assert [job.end(place, 60) for place in places] == [0, 0], job.all_said
        said = job.said("worker:0")
    assert "after 4 steps on 1" in said
    assert "SIGTERM" not in said


def test_who_is_lost_in_a_later_fit_comes_back_as_one_restart(
    run_job: RunJob, tmp_path: Path
) -> None:
    """The fit before has no epoch left then, and nobody can be taken in there."""
    ran = run_job(["--workers", "1:2", "--settle", 1, SCRIPT, tmp_path, "dies"], timeout=110)
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    assert "SIGTERM" not in said
    assert re.findall(r"after \d+ steps on \d", said) == 2 * ["after 44 steps on 2"], said
    assert "2 of 3" not in said
