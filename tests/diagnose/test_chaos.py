"""`tfdist chaos` disturbs a real job, and sees when it ends otherwise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

TRAIN = Path(__file__).with_name("seeded.py")


def chaos(*arguments: object, seconds: float = 200.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfdist", "chaos", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def rows_of(output: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in output.splitlines()
        if re.match(r"\| \d", line)
    ]


@pytest.mark.thorough
@pytest.mark.timeout(220)
def test_killed_and_told_to_end_a_job_ends_with_the_same_bits() -> None:
    faults = ["--rounds", 2, "--faults", "kill,term-launcher", "--limit", 60]
    ran = chaos(*faults, "--", "run", "--workers", 1, TRAIN)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = rows_of(ran.stdout)
    assert {row[1] for row in rows} == {"kill", "term-launcher"}
    assert [row[6] for row in rows] == ["same bits"] * 2
    assert [row[5] for row in rows] == ["-, 0 left"] * 2
    assert "2 of 2 rounds ended as they should" in ran.stdout


@pytest.mark.thorough
@pytest.mark.timeout(220)
def test_a_job_that_does_not_resume_is_seen() -> None:
    """It draws without a seed, so that it cannot end with the same bits."""
    job = ["--", "run", "--workers", 1, TRAIN, "unseeded"]
    ran = chaos("--rounds", 1, "--faults", "kill", "--limit", 60, *job)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert rows_of(ran.stdout)[0][6] == "same counts"
    assert "0 of 1 rounds ended as they should" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rounds", "2"], "give the job after --"),
        (["--faults", "burn", "--", "run", "x.py"], "fault 'burn'; the faults are kill,"),
        (["--rounds", "0", "--", "run", "x.py"], "--rounds 0: give at least 1"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(arguments: list[str], says: str) -> None:
    ran = chaos(*arguments, seconds=30)
    assert ran.returncode == 64
    assert says in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
