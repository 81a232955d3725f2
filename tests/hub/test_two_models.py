"""A backbone that one model has trained is tuned in another, as in plain Keras."""

from __future__ import annotations

import contextlib
import functools
import pickle
from typing import Any

import numpy as np
import pytest

import tfdist
from tests.conftest import RunJob
from tests.hub import two_models
from tests.training import comparing
from tests.training.comparing import Outcome, assert_same
from tests.training.devices import cut_the_cpu

pytest.importorskip("keras_hub")
cut_the_cpu()

WORKERS = 2


def outcome(found: two_models.Found) -> Outcome:
    result, weights = found
    return Outcome(result, weights, [])


@functools.cache
def plain(name: str) -> Outcome:
    return outcome(two_models.run(name, contextlib.nullcontext, lambda model: model))


@pytest.fixture(scope="module")
def job(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each worker of one job has found."""
    folder = tmp_path_factory.mktemp("two_models")
    ran = run_job(["--workers", WORKERS, "-m", "tests.hub.two_models", folder], timeout=200)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return [pickle.loads((folder / f"found-{i}.pickle").read_bytes()) for i in range(WORKERS)]


@pytest.mark.parametrize("name", two_models.PROGRAMS)
def test_on_logical_cpus(name: str) -> None:
    strategy = comparing.mirrored(3)
    found = two_models.run(name, strategy.scope, tfdist.plug)
    assert_same(plain(name), outcome(found))


@pytest.mark.thorough
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", two_models.PROGRAMS)
def test_on_two_workers(name: str, job: list[dict[str, Any]]) -> None:
    assert_same(plain(name), outcome(job[0][name]), where="workers")
    for one, other in zip(job[0][name][1], job[1][name][1], strict=True):
        np.testing.assert_array_equal(one, other)
