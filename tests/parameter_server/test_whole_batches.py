"""Parameter servers that train in step do what one process does, whoever is slow or lost."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.conftest import RunJob
from tests.parameter_server import whole_models

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def found(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a chief with three workers and two ps tasks has found."""
    folder = tmp_path_factory.mktemp("whole")
    script = Path(__file__).with_name("whole_batches.py")
    ran = run_job(["--workers", 3, "--ps", 2, script, folder], timeout=380)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    read: dict[str, Any] = pickle.loads((folder / "found.pickle").read_bytes())
    return read


def _equal(model: keras.Model, weights: list[np.ndarray]) -> None:
    for own, there in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(there, own, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "spare"),
    [*((make, 1) for make in whole_models.SAME), *((make, 0) for make in whole_models.SAME[:2])],
)
def test_each_batch_is_one_update_as_in_one_process(
    make: Callable[[], keras.Model], spare: int, found: dict[str, Any]
) -> None:
    there = found[f"{make.__name__} {spare}"]
    assert not isinstance(there, str), there
    model = whole_models.made(make, contextlib.nullcontext())
    history = whole_models.fit(model, epochs=2)
    assert there["iterations"] == 26
    assert there["history"].keys() == history.keys()
    for name, values in history.items():
        np.testing.assert_allclose(there["history"][name], values, rtol=1e-6)
    _equal(model, there["weights"])
    assert not any("shard" in path for path in there["variables"])


def test_single_batches_of_fewer_rows_than_workers_are_trained_on(found: dict[str, Any]) -> None:
    model = whole_models.made(whole_models.network, contextlib.nullcontext())
    for rows, there in zip((16, 2, 1), found["on_batches"]["logs"], strict=True):
        x, y = whole_models.X[:rows], whole_models.Y[:rows]
        logs = model.train_on_batch(x, y, return_dict=True)
        assert there == pytest.approx(logs, rel=1e-6)
    _equal(model, found["on_batches"]["weights"])


@pytest.mark.parametrize(
    ("disturbed", "undisturbed"),
    [("checkpointed", "network 1"), ("stopped", "network 1"), ("killed", "network 0")],
)
def test_the_bits_are_the_same_whoever_is_late_or_lost(
    disturbed: str, undisturbed: str, found: dict[str, Any]
) -> None:
    there, other = found[disturbed], found[undisturbed]
    assert not isinstance(there, str), there
    assert there["iterations"] == other["iterations"]
    for one, two in zip(there["weights"], other["weights"], strict=True):
        np.testing.assert_array_equal(one, two)


def test_parts_draw_other_numbers_and_another_run_the_same(found: dict[str, Any]) -> None:
    first, second = found["draws"], found["draws again"]
    assert not isinstance(first, str), first
    history = first["history"]
    spread = np.asarray(history["squared"]) - np.asarray(history["drawn"]) ** 2
    assert (spread > 1e-5).all()
    assert history == second["history"]
    for one, two in zip(first["weights"], second["weights"], strict=True):
        np.testing.assert_array_equal(one, two)


def test_after_an_error_it_trains_on(found: dict[str, Any]) -> None:
    there = found["failed"]
    assert there["told"]
    assert there["at"] == 6  # of the seventh batch
    model = whole_models.made(whole_models.fails, contextlib.nullcontext())
    whole_models.fit(model, epochs=2)
    _equal(model, there["weights"])


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("gan", "PlugError: train_step applies gradients twice (a GAN's?)"),
        ("untrained", "PlugError: train_step applies no optimizer"),
        ("own_sum", "is a sum over rows that train_step makes itself"),
        ("no_number", "PlugError: train_step takes gradients of a loss that has a number for each"),
        ("tells_sums", "PlugError: the log 'sum' is a sum over rows"),
        ("draws_anew", "PlugError: the model draws random numbers by tf.random (RandomStandardNo"),
        ("masked", "a loss over the steps that a mask leaves"),
        ("normalized", "PlugError: train_step, or a layer, assigns to "),
        ("warms_up", "PlugError: train_step, or a layer, assigns to "),
        ("uneven", "PlugError: a batch with 16 rows in one tensor and 1 in another"),
        ("reads_after", "PlugError: train_step reads weights or the optimizer's iterations after"),
        ("all are backups", "PlugError: backup_workers=3 in a job of 3 workers"),
        ("own data", "PlugError: a function of InputContext with backup_workers"),
        ("unplugged", "PlugError: a model that was made in the scope of parameter servers is used"),
        ("unbuilt", "ValueError: When passing `grads` without `variables`, the optimizer must"),
    ],
)
def test_what_cannot_be_is_told(what: str, told: str, found: dict[str, Any]) -> None:
    assert told in found[what]
