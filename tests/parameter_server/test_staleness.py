"""While one worker takes long for a step, the others are no further ahead than they may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import RunJob
from tests.parameter_server import staleness

pytestmark = pytest.mark.timeout(200)


@pytest.fixture(scope="module")
def found(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a chief with three workers saw, by the bound."""
    path = tmp_path_factory.mktemp("staleness") / "found.json"
    script = Path(staleness.__file__)
    ran = run_job(["--workers", 3, "--ps", 1, script, path], timeout=180)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    read: dict[str, Any] = json.loads(path.read_text())
    return read


@pytest.mark.parametrize("most", [0, 2])
def test_no_update_misses_more_than_it_may(found: dict[str, Any], most: int) -> None:
    history, _, iterations, _ = found[str(most)]
    assert max(history["staleness_max"]) <= most
    assert min(history["staleness_mean"]) >= 0
    assert iterations == 2 * staleness.BATCHES


def test_without_a_bound_that_matters_the_long_step_misses_many(found: dict[str, Any]) -> None:
    assert found["100000"][0]["staleness_max"][1] > 6


def test_a_bound_of_nothing_is_one_process(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", "{}")
    model = staleness.model_of()
    history = staleness.fit(model)
    there, weights, _, _ = found["0"]
    assert there["loss"] == pytest.approx(history["loss"], rel=1e-6)
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(np.asarray(other, "float32"), one, rtol=0, atol=1e-7)
