"""`tfdist run --plug`: scripts written for one process are trained by all tasks together."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.conftest import RunJob

pytestmark = pytest.mark.timeout(300)
HERE = Path(__file__).parent
TRAINED = ("none", "own methods", "loaded", "MirroredStrategy", "OneDeviceStrategy")


def run(run_job: RunJob, folder: Path, *options: object) -> dict[str, Any]:
    """What each task has found, by its name; the launcher's output is under "output"."""
    ran = run_job([*options, HERE / "no_strategy.py", folder], timeout=200)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    found = {path.stem[6:]: json.loads(path.read_text()) for path in folder.glob("found-*.json")}
    return {**found, "output": ran.stdout + ran.stderr}


@pytest.fixture(scope="module")
def plain(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process of plain Keras has found."""
    return run(run_job, tmp_path_factory.mktemp("plain"))["worker-0"]


@pytest.fixture(scope="module")
def workers(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two workers have found under --plug, and the folder of their files."""
    folder = tmp_path_factory.mktemp("workers")
    return {**run(run_job, folder, "--plug", "--workers", 2), "folder": folder}


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert list(one) == list(other)
        assert one
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list) and one and isinstance(one[0], list):
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    else:
        assert np.isfinite(one).all()  # NaN would be equal to NaN
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TRAINED)
def test_two_workers_train_together_what_one_process_trains(
    name: str, plain: Any, workers: dict[str, Any]
) -> None:
    for worker in ("worker-0", "worker-1"):
        assert_equal(plain[name], workers[worker][name])


def test_they_predict_alike_and_draw_the_same_unseeded_numbers(
    plain: Any, workers: dict[str, Any]
) -> None:
    first, second = workers["worker-0"], workers["worker-1"]
    assert_equal(plain["predicted"], first["predicted"])
    assert first["drawn"] == second["drawn"]
    assert first["words"] == second["words"]
    assert first["none"] == second["none"]


def test_what_keras_writes_is_whole(plain: Any, workers: dict[str, Any]) -> None:
    folder = workers["folder"]
    names = {path.name for path in folder.iterdir() if not path.name.startswith("found")}
    kept = {"initial.keras", "epoch.1.keras", "epoch.2.keras", "model.keras", "log.csv"}
    assert names == kept
    assert len(list(csv.reader((folder / "log.csv").read_text().splitlines()))) == 3
    loaded = keras.models.load_model(folder / "model.keras")
    saved = [weight.tolist() for weight in loaded.get_weights()]
    assert_equal(plain["none"]["weights"], saved)


def test_what_cannot_be_trained_together_is_refused_by_name(workers: dict[str, Any]) -> None:
    found = workers["worker-1"]
    assert found["central"].startswith("StrategyError: CentralStorageStrategy trains on this")
    assert found["servers"].startswith("ClusterError: no ps in the cluster (2 workers)")
    assert found["devices"].startswith("StrategyError: MirroredStrategy on GPU:7, but the workers")
    for what in ("loop", "own steps"):
        assert found[what].startswith("PlugError: a training loop of the script's own, outside")


def test_it_is_said_once_what_takes_the_place_of_a_strategy(workers: dict[str, Any]) -> None:
    assert workers["output"].count("the script has made no strategy: the job's holds for all") == 1
    assert "NO STRATEGY" not in workers["output"]


def test_one_worker_with_a_server_trains_what_one_process_trains(
    plain: Any, run_job: RunJob, tmp_path: Path
) -> None:
    found = run(run_job, tmp_path, "--plug", "--workers", 1, "--ps", 1)["chief-0"]
    for name in ("none", "own methods", "MirroredStrategy"):
        assert_equal(plain[name], found[name])
    assert found["servers"] == "nothing"  # the strategy that there is


def test_a_tutorials_server_job_trains_and_its_error_is_the_jobs(
    plain: Any, run_job: RunJob, tmp_path: Path
) -> None:
    options = ["--plug", "--workers", 1, "--ps", 1]
    ran = run_job([*options, HERE / "servers.py", tmp_path / "history.json", "fail"], timeout=200)
    history = json.loads((tmp_path / "history.json").read_text())
    expected = {name: plain["MirroredStrategy"]["history"][name] for name in history}
    assert_equal(expected, history)
    assert ran.returncode == 1
    assert "the first failure: chief:0 ended with exit code 1" in ran.stderr
    assert "ValueError: the script's own error" in ran.stderr
    assert "own loop: PlugError: a training loop of the script's own, outside" in ran.stdout
    assert "start the job again" not in ran.stderr
