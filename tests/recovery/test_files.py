"""What several workers write to one place is whole, and plain Keras reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import RunJob


@pytest.fixture(scope="module")
def job(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    ran = run_job(["--workers", 2, Path(__file__).with_name("files.py"), folder])
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture(scope="module")
def found(job: Path) -> dict[str, Any]:
    both = [json.loads((job / f"found-{worker}.json").read_text()) for worker in range(2)]
    assert both[0] == both[1]
    result: dict[str, Any] = both[0]
    return result


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(105, 8)).astype("float32"), rng.integers(0, 3, 105)


def test_saved_models_load_in_plain_keras_and_predict_the_same(job: Path) -> None:
    x, _ = data()
    predicted = [np.load(job / f"predicted-{worker}.npy") for worker in range(2)]
    np.testing.assert_array_equal(predicted[0], predicted[1])
    model = keras.models.load_model(job / "model.keras")
    np.testing.assert_allclose(model.predict(x, verbose=0), predicted[0], atol=1e-6)
    model.load_weights(job / "model.weights.h5")
    np.testing.assert_allclose(model.predict(x, verbose=0), predicted[0], atol=1e-6)
    exported = tf.saved_model.load(str(job / "exported"))
    np.testing.assert_allclose(exported.serve(x), predicted[0], atol=1e-6)
    assert keras.models.load_model(job / "best.keras").count_params() == model.count_params()


def test_the_chief_alone_logs(job: Path) -> None:
    lines = (job / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1"]
    assert len(list((job / "board" / "train").iterdir())) == 1
    assert (job / "backup-0").is_dir()
    assert not (job / "backup-1").exists()
    assert not list(job.glob(".writing-*"))


def test_all_workers_take_over_what_the_chief_restores(found: dict[str, Any]) -> None:
    assert found["resumed epochs"] == [2, 3]
    np.testing.assert_allclose(found["resumed loss"], found["straight loss"][2:], rtol=1e-6)


def test_all_workers_take_over_the_states_of_several_optimizers(found: dict[str, Any]) -> None:
    resumed, straight = (found[f"{how}, two optimizers"] for how in ("resumed", "straight"))
    assert resumed["epochs"] == [2, 3]
    for name, values in straight["loss"].items():
        np.testing.assert_allclose(resumed["loss"][name], values[2:], rtol=1e-5)
    for what in ("state", "weights"):
        for one, other in zip(straight[what], resumed[what], strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=2e-6)


def test_workers_with_their_own_data_weigh_every_example_the_same(found: dict[str, Any]) -> None:
    # Step by step, what the two workers bring together is one batch of one process.
    x, y = data()
    rows = [np.arange(i * 16, min((i + 1) * 16, 41)) for i in range(3)] + [np.array([], int)]
    batches = [
        np.concatenate([own, 41 + np.arange(i * 16, (i + 1) * 16)]) for i, own in enumerate(rows)
    ]
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def generate():  # type: ignore[no-untyped-def]
        for batch in batches:
            yield x[batch], y[batch]

    spec = (tf.TensorSpec([None, 8], tf.float32), tf.TensorSpec([None], tf.int64))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=spec)
    history = model.fit(dataset, epochs=2, verbose=0).history
    for name, values in history.items():
        np.testing.assert_allclose(found["own data"][name], values, rtol=1e-5)
    for weight, expected in zip(found["own weights"], model.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)
    loss, accuracy = found["own data evaluated"]
    expected_loss, expected_accuracy = model.evaluate(x, y, batch_size=32, verbose=0)
    np.testing.assert_allclose([loss, accuracy], [expected_loss, expected_accuracy], rtol=1e-5)
