"""Workers that keep a share each of an optimizer's slots end with what whole slots would give."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import RunJob
from tests.slot_shards import programs
from tests.training import comparing

WORKERS = (2, 3) if comparing.THOROUGH else (2,)
BEFOREHAND = ["CollectiveAllToAllV2", "CollectiveGatherV2"]


@pytest.fixture(scope="module", params=WORKERS, ids=[f"{n}_workers" for n in WORKERS])
def found(
    request: pytest.FixtureRequest, run_job: RunJob, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What each worker of one job has found."""
    folder = tmp_path_factory.mktemp("found")
    script = Path(__file__).with_name("job.py")
    ran = run_job(["--workers", request.param, "--threads", 1, script, folder], timeout=550)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return [pickle.loads((folder / f"found-{i}.pickle").read_bytes()) for i in range(request.param)]


def assert_close(ours: Any, theirs: Any, tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", programs.USUAL)
def test_weights_are_those_of_whole_slots(name: str, found: list[dict[str, Any]]) -> None:
    for worker in found:
        whole, shared = worker[name]["weights"]
        # Two numbers have one sum, in whatever order; a norm is added up in another one.
        exact = len(found) == 2 and "clipping" not in name
        assert_close(shared, whole, 0 if exact else comparing.ADAM_WEIGHTS)
        assert_close(shared, found[0][name]["weights"][1], 0)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", programs.USUAL)
def test_weights_are_those_of_one_process(name: str, found: list[dict[str, Any]]) -> None:
    plain = programs.train(name, contextlib.nullcontext(), lambda model: model)
    assert_close(found[0][name]["weights"][1], plain.get_weights(), comparing.ADAM_WEIGHTS)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", programs.USUAL)
def test_a_worker_keeps_its_share_alone(name: str, found: list[dict[str, Any]]) -> None:
    for worker in found:
        whole, shared = worker[name]["slots"]
        # Variables of 3 to 102 numbers: of each, up to a row is left free on the last worker.
        assert shared <= whole / len(found) + 0.1 * whole


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", programs.USUAL)
def test_gradients_are_summed_where_they_are_applied(
    name: str, found: list[dict[str, Any]]
) -> None:
    """But for those that somebody looks at, and sparse ones: what all are to see is sent to all."""
    used = set(found[0][name]["collectives"][1])
    looked_at = name == "a step that looks at gradients"
    assert ("CollectiveAllToAllV2" in used) == (not looked_at)
    if looked_at:
        assert "CollectiveGatherV2" in used


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", programs.USUAL)
def test_a_file_holds_whole_slots(name: str, found: list[dict[str, Any]]) -> None:
    for worker in found:
        if worker[name]["file"] is not None:
            whole, read = worker[name]["file"]
            assert_close(read, whole, comparing.ADAM_WEIGHTS)


def test_virtual_replicas_have_the_bits_of_whole_slots(found: list[dict[str, Any]]) -> None:
    for worker in found:
        for whole, shared in worker["virtual"]:
            assert_close(shared, whole, 0)


def test_a_model_from_a_file_goes_on_as_the_one_that_was_saved(found: list[dict[str, Any]]) -> None:
    for worker in found:
        first, second = worker["taken up"]
        assert_close(second, first, 0)


def test_what_the_chief_writes_alone_is_what_all_would(found: list[dict[str, Any]]) -> None:
    for worker in found:
        assert_close(found[0]["written by the chief"], worker["written by all"], 0)
        assert_close(worker["written beside the chief"], worker["written by all"], 0)


def test_a_save_on_the_chief_alone_is_told_to_all(found: list[dict[str, Any]]) -> None:
    for worker in found:
        assert "worker 0 calls save, worker 1 calls evaluate" in worker["saved alone"]
        assert "every worker must call save" in worker["saved alone"]
