"""Real jobs whose workers change in number: every example once an epoch, one process' numbers."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import RunJob
from tests.elastic.changing_sizes import SCRIPT, one_four_two_three
from tests.elastic.launchers import Launchers
from tests.elastic.seen import steps_of_chiefs, workers_of_steps
from tests.elastic.test_resized import check
from tests.elastic.test_resized import undisturbed as undisturbed

EXACT = Path(__file__).parent.parent / "recovery" / "exact.py"
pytestmark = pytest.mark.timeout(300)
SLOWLY = {"PAUSE": "0.4"}


def test_a_job_on_one_machine_goes_on_with_those_that_are_left(
    run_job: RunJob, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Its third worker is killed, and comes back at a border."""
    options = ["--workers", "1:3", "--settle", 2, "--grace", 2]
    ran = run_job([*options, SCRIPT, tmp_path, "worker:1", 1, 3], env=SLOWLY)
    assert ran.returncode == 0, ran.stderr
    assert "3 workers: starting worker:0, worker:1, worker:2; logs in" in ran.stderr
    assert "worker:1 was ended by SIGKILL" in ran.stderr
    assert "): going on with 2 of 3 workers" in ran.stderr
    assert "2 workers: starting worker:0, worker:1 (place worker:2); logs in" in ran.stderr
    assert "worker:1 can take part: all save, and go on with 3 instead of 2" in ran.stderr
    assert "starting worker:1 again (1 of 3)" in ran.stderr
    assert ran.stderr.count("the first failure") == 1  # to save and go on is none
    check(tmp_path, undisturbed)
    assert set(workers_of_steps(tmp_path).values()) == {2, 3}


@pytest.mark.thorough
def test_with_virtual_replicas_its_weights_have_the_bits_of_one_process(
    run_job: RunJob, tmp_path: Path
) -> None:
    options, env = ["--threads", 1, "--settle", 2], {**SLOWLY, "VIRTUAL": "4"}
    results = []
    for name, workers, fault in (("one", 1, []), ("elastic", "1:3", ["worker:1", 1, 3])):
        folder = tmp_path / name
        folder.mkdir()
        ran = run_job([*options, "--workers", workers, SCRIPT, folder, *fault], env=env)
        assert ran.returncode == 0, ran.stderr
        results.append(json.loads((folder / "result.json").read_text()))
    assert "going on with 2 of 3 workers" in ran.stderr
    assert "go on with 3 instead of 2" in ran.stderr
    assert results[0]["values"] == results[1]["values"]
    np.testing.assert_allclose(
        results[1]["history"]["loss"], results[0]["history"]["loss"], rtol=1e-6
    )


@pytest.mark.thorough
def test_an_evaluator_begins_anew_with_each_size_and_scores_the_last_checkpoint(
    run_job: RunJob, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    options = ["--workers", "1:3", "--evaluator", "--settle", 2, "--grace", 2]
    ran = run_job([*options, SCRIPT, tmp_path, "worker:1", 1, 3], env=SLOWLY)
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    assert "going on with 2 of 3 workers" in said
    assert "all have saved; ending evaluator:0 within 2 s" in said
    assert "checkpoint of epoch 4: loss" in said
    check(tmp_path, undisturbed)


@pytest.mark.thorough
def test_a_pipeline_goes_on_with_fewer_stages_and_then_with_more(
    run_job: RunJob, tmp_path: Path
) -> None:
    losses = []
    for name, workers, fault in (("all", 2, []), ("elastic", "1:2", ["worker:0", 1, 3, "SIGKILL"])):
        folder = tmp_path / name
        folder.mkdir()
        options = ["--workers", workers, "--chief", "--grace", 2]
        settle = ["--settle", 2] if fault else []
        ran = run_job([*options, *settle, EXACT, folder, "pipeline", *fault])
        assert ran.returncode == 0, ran.stdout + ran.stderr
        losses.append(json.loads((folder / "result-chief-0.json").read_text())["losses"])
    said = ran.stdout + ran.stderr
    assert "going on with 2 of 3 workers" in said
    assert "1 stages, 4 microbatches" in said
    assert " steps, from " in said
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


@pytest.mark.thorough
def test_one_to_four_to_two_to_three(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """Launchers come and go, as hosts do; the job is one."""
    one_four_two_three(tmp_path)
    check(tmp_path, undisturbed)
    assert set(workers_of_steps(tmp_path).values()) == {1, 4, 2, 3}


@pytest.mark.thorough
def test_a_host_that_is_taken_away_has_the_job_save_first(
    undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """SIGTERM to a launcher, as schedulers send it: no step is taken twice."""
    places = ["worker:0", "worker:1"]
    options = ["--workers", "1:2", "--settle", 5, "--grace", 8]
    with Launchers(tmp_path, places, options, [SCRIPT, tmp_path], SLOWLY) as launchers:
        for place in places:
            launchers.start(place)
        launchers.wait_until(
            lambda: len(list((tmp_path / "run").glob("epoch-00001*"))) > 0, "epoch 1", 60
        )
        launchers.send("worker:1", signal.SIGTERM)
        assert launchers.end("worker:1", 60) == 75
        assert launchers.end("worker:0", 90) == 0, launchers.all_said
        said = launchers.said("worker:0")
    assert "SIGTERM at worker:1: all save, and the others go on" in said
    assert "1 worker: starting worker:0" in said
    assert "the first failure" not in said
    check(tmp_path, undisturbed)
    assert steps_of_chiefs(tmp_path) == list(range(28))  # none twice
