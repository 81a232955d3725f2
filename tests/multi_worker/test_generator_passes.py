"""Two real workers read a generator in several passes, and each batch once, in its order."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import RunJob

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def found(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each worker has found; a step's loss is the square of its batch's number."""
    folder = tmp_path_factory.mktemp("found")
    script = Path(__file__).with_name("generator_passes.py")
    ran = run_job(["--workers", 2, script, folder], timeout=120)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return [pickle.loads((folder / f"found-{i}.pickle").read_bytes()) for i in range(2)]


def squares(first: int, passes: int, steps: int, apart: int = 0) -> list[float]:
    """The means over passes of so many steps, with so many batches between them."""
    begins = [first + i * (steps + apart) for i in range(passes)]
    return [float(np.mean(np.arange(begin, begin + steps) ** 2.0)) for begin in begins]


def test_a_generator_to_validate_with_goes_on_in_each_epoch(found: list[dict[str, Any]]) -> None:
    for worker in found:
        np.testing.assert_allclose(worker["fit"]["loss"], squares(0, 3, 6), rtol=1e-6)
        np.testing.assert_allclose(worker["fit"]["val_loss"], squares(0, 3, 4), rtol=1e-6)


def test_further_calls_go_on_where_the_last_one_stopped(found: list[dict[str, Any]]) -> None:
    for worker in found:
        np.testing.assert_allclose(worker["evaluate"], squares(18, 3, 2), rtol=1e-6)
        np.testing.assert_allclose(worker["fits"], squares(27, 3, 5), rtol=1e-6)


def test_training_and_validation_may_share_a_generator(found: list[dict[str, Any]]) -> None:
    for worker in found:
        np.testing.assert_allclose(worker["shared"]["loss"], squares(0, 3, 3, 2), rtol=1e-6)
        np.testing.assert_allclose(worker["shared"]["val_loss"], squares(3, 3, 2, 3), rtol=1e-6)


def test_generators_that_differ_are_named(found: list[dict[str, Any]]) -> None:
    for worker in found:
        assert "in the same step: Python code makes them (a generator" in worker["apart"]
        assert "seed what it draws from" in worker["apart"]
        assert "map" not in worker["apart"]
