"""A task that is stopped, or sleeps, is named within seconds, and nobody waits for it for ever."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.conftest import RunJob

SCRIPT = Path(__file__).with_name("exact.py")
LIMIT = 12
LIMIT_OF_CHIEF = 3  # its servers bear its silence for ten times as long


@pytest.mark.parametrize(
    ("kind", "tasks", "stopped"),
    [
        ("pipeline", ["--chief", "--workers", 1], "worker:0"),
        pytest.param(
            "parameter_server", ["--workers", 1, "--ps", 1], "ps:0", marks=pytest.mark.thorough
        ),
        pytest.param(
            "parameter_server", ["--workers", 1, "--ps", 1], "worker:0", marks=pytest.mark.thorough
        ),
        pytest.param(
            "parameter_server", ["--workers", 1, "--ps", 1], "chief:0", marks=pytest.mark.thorough
        ),
    ],
)
def test_a_stopped_task_is_named_and_the_job_ends(
    kind: str, tasks: list[object], stopped: str, run_job: RunJob, tmp_path: Path
) -> None:
    fault = [stopped, 1, 3, "SIGSTOP"]
    began = time.monotonic()
    limit = LIMIT_OF_CHIEF if stopped == "chief:0" else LIMIT
    ran = run_job(["--stall_timeout", limit, *tasks, SCRIPT, tmp_path, kind, *fault], timeout=100)
    assert time.monotonic() - began < 90
    assert ran.returncode == 75, ran.stderr
    said = ran.stdout + ran.stderr
    found = re.findall(rf"{stopped}\b.* has said nothing for (\d+) s", said)
    assert found, said
    if stopped != "chief:0":  # then nobody can say it before the limit
        assert min(map(int, found)) <= 10


@pytest.mark.thorough
def test_a_worker_that_sleeps_in_a_callback_is_named_with_its_line(
    run_job: RunJob, tmp_path: Path
) -> None:
    script = SCRIPT.with_name("sleeper.py")
    ran = run_job(["--workers", 2, script], timeout=100)
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout + ran.stderr
    assert re.search(
        r"worker:0 is at the border after epoch 1, where workers meet for \d+ s: it waits for "
        r"worker:1, which is in its callbacks at the end of epoch 1 for \d+ s "
        r"\(sleeper\.py, line \d+, in on_epoch_end\)",
        said,
    ), said
    assert re.search(r"worker:1 is in its callbacks .*: the others wait for it \(sleeper", said)
