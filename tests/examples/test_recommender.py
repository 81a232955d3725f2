"""The recommender example, in one process and on parameter servers."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import RunJob
from tfdist.examples import ratings

OF_THE_MEAN = 1.05
"""How wrong, in stars, it is to predict the mean of all ratings."""


def test_ratings_are_predicted_from_weights_and_all_pairs_of_vectors() -> None:
    import keras

    from tfdist.examples import recommender

    keras.utils.set_random_seed(1)
    model = recommender.build_model(dimensions=5, mean=3.5)
    random = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(random.normal(size=variable.shape))
    weights, vectors = (model.get_layer(n).embeddings.numpy() for n in ("weights", "vectors"))

    ids = ratings.movielens()[1][0][:20]
    expected = [
        3.5 + sum(weights[i, 0] for i in row) + sum(_pairs(vectors, row)) for row in ids.tolist()
    ]
    np.testing.assert_allclose(model.predict(ids, verbose=0)[:, 0], expected, rtol=1e-4, atol=1e-4)


def _pairs(vectors: np.ndarray, row: list[int]) -> list[float]:
    return [float(vectors[i] @ vectors[j]) for i, j in itertools.combinations(row, 2)]


@pytest.mark.thorough
def test_one_process_learns_the_ratings_and_saves_a_plain_keras_model(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tfdist.examples.recommender", *_options(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    check(done, tmp_path)


@pytest.mark.thorough
def test_two_workers_and_two_servers_learn_the_ratings_as_well(
    run_job: RunJob, tmp_path: Path
) -> None:
    job = ["--workers", "2", "--ps", "2", "-m", "tfdist.examples.recommender"]
    done = run_job([*job, *_options(tmp_path)])
    check(done, tmp_path)
    assert "10,742 x 16 in 2 shards, on ps:0 and ps:1" in done.stdout + done.stderr


def _options(folder: Path) -> list[str]:
    saved, history = folder / "recommender.keras", folder / "history.json"
    quick = ["--epochs", "2", "--batch_size", "1024", "--learning_rate", "0.5"]
    return [*quick, "--save", str(saved), "--history", str(history)]


def check(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    """The job has told once how wrong it is, and that is what its model is in plain Keras."""
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.findall(r"test RMSE: ([\d.]+)", done.stdout)
    assert len(told) == 1, done.stdout
    assert float(told[0]) < 0.93 < OF_THE_MEAN
    history = json.loads((folder / "history.json").read_text())["val_rmse"]
    assert len(history) == 2
    assert abs(history[-1] - float(told[0])) < 1e-4

    import keras

    ids, stars = ratings.movielens()[1]
    predicted = keras.models.load_model(folder / "recommender.keras").predict(ids, 2048, verbose=0)
    assert abs(np.sqrt(np.mean((predicted[:, 0] - stars) ** 2)) - float(told[0])) < 1e-4
