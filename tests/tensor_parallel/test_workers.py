"""Weights over two real workers are those of one process, and a lost worker is named."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.conftest import RunJob
from tests.multi_worker import programs
from tests.tensor_parallel.programs_in_parts import sentences
from tests.training.comparing import ADAM_WEIGHTS, HISTORY
from tests.training.models import FIT, LABELS, TOKENS

pytestmark = pytest.mark.timeout(300)
SCRIPT = Path(__file__).with_name("job.py")


@pytest.fixture(scope="module")
def found(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the chief of two workers has found."""
    folder = tmp_path_factory.mktemp("tensor_parallel")
    ran = run_job(["--workers", 2, "--chief", SCRIPT, folder], timeout=240)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    content: dict[str, Any] = pickle.loads((folder / "found.pickle").read_bytes())
    return {**content, "folder": folder}


def test_two_workers_that_go_on_from_a_checkpoint_equal_one_process(found: dict[str, Any]) -> None:
    keras.utils.set_random_seed(programs.SEED)
    model = sentences()
    history = model.fit(TOKENS, LABELS, **FIT, shuffle=False).history
    np.testing.assert_allclose(found["loss"], history["loss"], rtol=HISTORY)
    loaded = keras.models.load_model(found["folder"] / "saved.keras")
    assert type(loaded.get_layer("by_rows")) is keras.layers.Embedding
    for ours, theirs in zip(
        [*loaded.weights, *loaded.optimizer.variables],
        [*model.weights, *model.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=ADAM_WEIGHTS, err_msg=ours.path)
    predicted = model.predict(TOKENS, verbose=0)
    np.testing.assert_allclose(found["predicted"], predicted, rtol=0, atol=1e-5)


def test_each_worker_has_its_part_of_the_weights_and_of_their_slots(found: dict[str, Any]) -> None:
    for places in (found["devices"], found["slots"]):
        parts = {path: device for path, device in places.items() if "_part_" in path}
        assert len(parts) >= 2 * 11
        for path, device in parts.items():
            number = path.partition("_part_")[2][0]
            assert device == f"/job:worker/replica:0/task:{number}/device:CPU:0", path
        whole = {device for path, device in places.items() if "layer_norm" in path}
        assert whole == {"/job:worker/replica:0/task:0/device:CPU:0"}


def test_a_job_with_a_lost_worker_ends_and_names_it(run_job: RunJob, tmp_path: Path) -> None:
    ran = run_job(["--workers", 2, "--chief", SCRIPT, tmp_path, "lose"], timeout=120)
    assert ran.returncode == 137, ran.stdout[-2000:] + ran.stderr[-4000:]
    assert "the first failure: worker:1 was ended by SIGKILL" in ran.stderr
