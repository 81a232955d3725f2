"""Twelve workers: they sum level by level, and gather in an order that is not TensorFlow's."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfdist
from tests.conftest import RunJob
from tests.multi_worker.twelve_programs import WORKERS, Spread, train
from tests.training import comparing


@pytest.fixture(scope="module")
def found(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("twelve") / "found"
    script = Path(__file__).with_name("twelve.py")
    ran = run_job(["--workers", WORKERS, "--threads", 1, script, path], timeout=300)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    told: dict[str, Any] = pickle.loads(path.read_bytes())
    return told


def assert_near(found: Any, wanted: Any) -> None:
    for a, b in zip(found[0], wanted[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=comparing.ADAM_WEIGHTS)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-5)


def test_sums_go_level_by_level(found: dict[str, Any]) -> None:
    assert found["levels"] == [4, 3]


def test_whole_and_shared_slots_are_one_machines(found: dict[str, Any]) -> None:
    plain = train(contextlib.nullcontext(), None)
    assert_near(found["whole"], plain)
    assert_near(found["shared"], plain)


def test_virtual_replicas_have_the_bits_of_one_process(found: dict[str, Any]) -> None:
    alone = train(tfdist.strategy().scope(), None, virtual_replicas=24)
    assert [a.tobytes() for a in found["virtual"][0]] == [b.tobytes() for b in alone[0]]


def test_columns_are_gathered_in_the_order_of_the_replicas(found: dict[str, Any]) -> None:
    assert_near(found["gathered"], train(tfdist.strategy().scope(), Spread))
