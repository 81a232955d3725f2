"""Hosts that start again together end with the bits of a job that nobody has disturbed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunJob
from tests.elastic.launchers import Launchers
from tests.recovery.test_exact import SCRIPT, TASKS, results_in

KINDS = [
    ("multi_worker_mirrored", ["worker:0", "worker:1"], "worker:1", (2, 4)),
    pytest.param(
        "parameter_server",
        ["chief:0", "worker:0", "ps:0"],
        "ps:0",
        (1, 3),
        marks=pytest.mark.thorough,
    ),
    pytest.param(
        "pipeline", ["chief:0", "worker:0"], "chief:0", (2, 4), marks=pytest.mark.thorough
    ),
]


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("kind", "places", "lost", "when"), KINDS)
def test_hosts_that_start_again_together_end_with_the_same_bits(
    kind: str,
    places: list[str],
    lost: str,
    when: tuple[int, int],
    run_job: RunJob,
    tmp_path: Path,
) -> None:
    (tmp_path / "undisturbed").mkdir()
    # Each launcher gives its task all cores, as it knows of no other one on its machine.
    threads = ["--threads", 1]
    ran = run_job([*TASKS[kind][0], *threads, SCRIPT, tmp_path / "undisturbed", kind])
    assert ran.returncode == 0, ran.stderr
    folder = tmp_path / "together"
    folder.mkdir()
    command: list[Any] = [SCRIPT, folder, kind, lost, *when, "SIGKILL"]
    with Launchers(tmp_path, places, ["--max_restarts", 1, *threads], command) as launchers:
        for place in places:
            launchers.start(place)
        for place in places:
            assert launchers.end(place, 120) == 0, launchers.all_said
        said = launchers.said(places[0])
    assert f"{lost} was ended by SIGKILL" in said
    assert "starting all tasks again (1 of 1)" in said
    assert " steps, from " in said  # in the middle of an epoch
    undisturbed = results_in(tmp_path / "undisturbed", kind)[0]
    for result in results_in(folder, kind):
        assert json.dumps(result) == json.dumps(undisturbed)
