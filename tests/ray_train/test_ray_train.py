"""Real Ray: a job that loses a worker or a node ends with the bits of one that does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(900)]
LOOP = Path(__file__).with_name("loop.py")
TOO_BUSY = "node timed out during startup"
"""Ray's nodes must be up within 30 s, which cannot be changed."""


def run(folder: Path, what: str) -> dict[str, Any]:
    folder.mkdir()
    for _ in range(3):
        job = begin(folder, what)
        if job.returncode == 0 or TOO_BUSY not in job.stdout:
            break
    assert job.returncode == 0, job.stdout[-5000:]
    return {
        **json.loads((folder / "result.json").read_text()),
        **json.loads((folder / "ray.json").read_text()),
        "said": job.stdout,
    }


def begin(folder: Path, what: str) -> subprocess.CompletedProcess[str]:
    # Ray's sockets lie below its folder, and their names may have 107 characters.
    temporary = tempfile.mkdtemp(prefix="tfdist-ray-", dir="/tmp")
    environment = os.environ | {"RAY_TMPDIR": temporary, "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        return subprocess.run(
            [sys.executable, LOOP, folder, what],
            env=environment | {"PYTHONUNBUFFERED": "1", "RAY_TRAIN_V2_ENABLED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
        )
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("ray") / "undisturbed", "undisturbed")


def test_ray_is_told_of_metrics_and_checkpoints(undisturbed: dict[str, Any]) -> None:
    assert undisturbed["metrics"] == {"loss": undisturbed["history"]["loss"][-1], "epoch": 3}
    assert sorted(undisturbed["files"]) == ["checkpoint.json", "epoch-00003.keras"]
    assert undisturbed["size"] == 2


@pytest.mark.parametrize(("what", "workers"), [("killed", 2), ("smaller", 1)])
def test_it_goes_on_in_the_middle_of_an_epoch_with_the_same_bits(
    undisturbed: dict[str, Any], tmp_path: Path, what: str, workers: int
) -> None:
    found = run(tmp_path / what, what)
    assert "goes on from Ray's checkpoint: epoch 1 and 3 steps" in found["said"]
    assert found["size"] == workers
    assert found["weights"] == undisturbed["weights"]
    assert found["files"] == undisturbed["files"]
    if workers == 2:
        assert found["history"] == undisturbed["history"]
