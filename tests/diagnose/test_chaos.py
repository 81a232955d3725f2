"""`tfdist chaos` disturbs a real job, and sees when it ends otherwise."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tfdist.diagnose.job_processes import at_work_in
from tfdist.diagnose.namespace_hosts import reason_against, remove_abandoned
from tfdist.diagnose.small_disk import no_small_disk

TRAIN = Path(__file__).with_name("seeded.py")
COUNTED = Path(__file__).with_name("exact_and_counted.py")


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    pid: int
    returncode: int
    stdout: str
    stderr: str


def chaos(*arguments: object, seconds: float = 200.0) -> Ran:
    with subprocess.Popen(
        [sys.executable, "-m", "tfdist", "chaos", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            process.terminate()  # which it ends in order
        return Ran(process.pid, process.returncode, out, err)


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


@pytest.mark.thorough
@pytest.mark.timeout(220)
def test_a_full_disk_costs_no_checkpoint() -> None:
    if reason := no_small_disk():
        pytest.skip(reason)
    ran = chaos("--rounds", 1, "--faults", "disk-full", "--", "run", "--workers", 1, TRAIN)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (row,) = rows_of(ran.stdout)
    assert row[1].startswith("disk-full, ")
    assert row[5:7] == ["-, 0 left", "same bits"]


@pytest.mark.thorough
@pytest.mark.timeout(320)
def test_a_job_over_hosts_goes_on_after_one_was_cut_off() -> None:
    if reason := reason_against():
        pytest.skip(reason)
    how = ["--stall_timeout", 10, "--rendezvous_timeout", 25, "--max_restarts", 2]
    job = ["--", "run", "--workers", 2, *how, COUNTED, "multi_worker_mirrored"]
    ran = chaos("--rounds", 1, "--faults", "cut-for-good", "--hosts", 2, *job, seconds=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (row,) = rows_of(ran.stdout)
    assert row[1] == "cut-for-good"
    assert row[5:7] == ["-, 0 left", "same bits"]
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert f"tf{ran.pid}" not in listed.stdout


@pytest.mark.thorough
@pytest.mark.timeout(120)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_it_however_it_ends(signum: signal.Signals, tmp_path: Path) -> None:
    if reason := reason_against():
        pytest.skip(reason)
    words = ["--hosts", 2, "--folder", tmp_path, "--", "run", "--workers", 2, COUNTED]
    command = [sys.executable, "-m", "tfdist", "chaos", *map(str, words), "multi_worker_mirrored"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        home = tmp_path / "undisturbed"
        until = time.monotonic() + 60
        while not (home.exists() and len(at_work_in(home)) >= 4) and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signum)
        process.wait(30)
    until = time.monotonic() + 10
    while (left := at_work_in(home)) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == []
    if signum == signal.SIGKILL:
        assert remove_abandoned() >= 3  # as the next one does
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert f"tf{process.pid}" not in listed.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rounds", "2"], "give the job after --"),
        (["--faults", "burn", "--", "run", "x.py"], "fault 'burn'; the faults are kill,"),
        (["--rounds", "0", "--", "run", "x.py"], "--rounds 0: give at least 1"),
        (["--", "run", "--workers", "2"], "no script; give script.py or"),
        (["--faults", "cut", "--", "run", "x.py"], "cut without --hosts; give --hosts 2 or more"),
        (["--hosts", "3", "--", "run", "--workers=2", "x.py"], "3 for a job of 2 tasks (worker:0,"),
        (["--hosts", "2", "--", "run", "--cluster", "x.json", "x.py"], "leave out --cluster and"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(arguments: list[str], says: str) -> None:
    ran = chaos(*arguments, seconds=30)
    assert ran.returncode == 64
    assert says in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
