"""L-BFGS on real workers and servers: one process' numbers, one worker's bits, scalars alone."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import RunJob
from tests.optimize import programs
from tfdist.optimize import LBFGS

pytestmark = pytest.mark.timeout(300)


def _run(run_job: RunJob, folder: Path, workers: int) -> dict[str, Any]:
    script = Path(__file__).with_name("job.py")
    options = ["--workers", workers, "--ps", 2, "--max_restarts", 1, "--tensorboard", folder]
    ran = run_job([*options, script, folder], timeout=240)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    found: dict[str, Any] = pickle.loads((folder / "found.pickle").read_bytes())
    timeline = json.loads((folder / "timeline.trace.json").read_text())
    return {**found, "output": ran.stdout + ran.stderr, "timeline": timeline}


@pytest.fixture(scope="module")
def one(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a chief with one worker and two ps tasks has found."""
    return _run(run_job, tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def several(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a chief with three workers and two ps tasks has found."""
    return _run(run_job, tmp_path_factory.mktemp("several"), 3)


def _assert_same_bits(one: Any, other: Any) -> None:
    assert not isinstance(one, str), one
    assert not isinstance(other, str), other
    for left, right in zip(one["weights"], other["weights"], strict=True):
        np.testing.assert_array_equal(left, right)
    assert one["loss"] == other["loss"]


@pytest.mark.thorough
def test_any_number_of_workers_gives_the_same_bits(
    one: dict[str, Any], several: dict[str, Any]
) -> None:
    _assert_same_bits(one["trained"], several["trained"])


def test_a_stopped_and_a_killed_worker_change_no_bit(several: dict[str, Any]) -> None:
    _assert_same_bits(several["trained"], several["disturbed"])
    assert several["disturbed"]["copies"] > 0  # of what the stopped one had in hand
    assert "worker:1 was ended by SIGKILL" in several["output"]


def test_a_descent_that_servers_have_kept_goes_on_with_its_bits(several: dict[str, Any]) -> None:
    _assert_same_bits(several["trained"], several["kept"])


def test_the_loss_is_that_of_one_process(several: dict[str, Any]) -> None:
    model = programs.classifier()
    found = LBFGS().minimize(model, programs.X, programs.Y, **programs.SETTINGS)
    assert several["trained"]["loss"] == pytest.approx(found.loss, rel=1e-3)
    assert several["trained"]["evaluated"] == pytest.approx(several["trained"]["loss"], rel=1e-5)
    start = LBFGS().minimize(
        programs.classifier(), programs.X, programs.Y, **{**programs.SETTINGS, "max_iterations": 0}
    )
    assert found.loss < 0.2 * start.loss


def test_no_vector_passes_through_the_chief(several: dict[str, Any]) -> None:
    found = several["traffic"]
    assert not isinstance(found, str), found
    assert found["weights"] > 2_000_000
    assert len(found["bytes"]) == 4
    for count, passes in zip(found["bytes"], found["passes"], strict=True):
        # An iteration works with a dozen vectors, and each pass has five gradients.
        assert count < 0.1 * passes * found["weights"], found


def test_portions_that_workers_read_give_the_bits_of_those_that_the_chief_sends(
    several: dict[str, Any],
) -> None:
    found = several["read by workers"]
    _assert_same_bits(several["trained"], found)
    sent, read = found["bytes"]
    assert sent - read > 0.9 * programs.X.nbytes  # what is left are commands and results
    assert "missing; No such file" in found["told"]


def test_the_live_view_follows_it(several: dict[str, Any]) -> None:
    """Iterations are epochs; what the chief reads and waits for are phases."""
    spans = [event for event in several["timeline"] if event.get("cat") == "phase"]
    assert {one["name"] for one in spans} == {"input", "compute", "callbacks"}
    iterations = {one["args"]["epoch"] for one in spans}
    assert iterations == set(range(1, max(iterations) + 1))
    assert max(iterations) > 2


def test_sharded_tables_are_weights_as_others(several: dict[str, Any]) -> None:
    found = several["sharded"]
    assert not isinstance(found, str), found
    assert found["shards"] == 2
    model = programs.recommender()
    plain = LBFGS().minimize(model, *programs.recommender_data(), **programs.SETTINGS)
    assert found["loss"] == pytest.approx(plain.loss, rel=1e-3)


def test_a_refusal_leaves_the_workers_ready(several: dict[str, Any]) -> None:
    told, loss = several["refused"]
    assert "while its loss is computed" in told
    assert loss > several["trained"]["loss"]
