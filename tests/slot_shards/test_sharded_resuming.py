"""A job goes on with another number of workers, with whole slots or with shares, as if nothing was.

The last epoch of a run that another goes on from is not the turn of a checkpoint, which is written
all the same, when the moving averages have become the weights.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.conftest import RunJob
from tests.slot_shards import programs
from tests.training import comparing

NAME = "decay, clipping and averages"


def go_on(run_job: RunJob, folder: Path, workers: int, epochs: int, how: str) -> list[np.ndarray]:
    script = Path(__file__).with_name("resuming_job.py")
    ran = run_job(["--workers", workers, "--threads", 1, script, folder, epochs, how], timeout=250)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    weights: list[np.ndarray] = pickle.loads((folder / "weights.pickle").read_bytes())
    return weights


def plain(epochs: tuple[int, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and the optimizer's variables of one process of plain Keras.

    Where a `fit` ends, moving averages become the weights, and the next goes on from them.
    """
    keras.utils.set_random_seed(programs.SEED)
    model = programs.PROGRAMS[NAME][0]()
    begun = 0
    for until in epochs:
        settings = {**programs.FIT, "epochs": until, "initial_epoch": begun}
        model.fit(programs.X, programs.Y, **settings)
        begun = until
    return model.get_weights(), [v.numpy() for v in model.optimizer.variables]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "runs",
    [
        [(2, 1, "shared"), (1, 2, "whole")],
        pytest.param(
            [(2, 1, "shared"), (3, 3, "shared"), (2, 5, "whole"), (3, 7, "shared")],
            marks=pytest.mark.thorough,
        ),
    ],
    ids=["2, then 1", "2, then 3, then whole ones, then 3"],
)
def test_shares_become_others(
    runs: list[tuple[int, int, str]], run_job: RunJob, tmp_path: Path
) -> None:
    found = [go_on(run_job, tmp_path, *run) for run in runs][-1]
    weights, slots = plain(tuple(epochs for _, epochs, _ in runs))
    for a, b in zip(found, weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=comparing.ADAM_WEIGHTS)
    read = keras.models.load_model(newest_in(tmp_path / "run")).optimizer.variables
    for variable, b in zip(read, slots, strict=True):
        np.testing.assert_allclose(variable.numpy(), b, rtol=0, atol=comparing.ADAM_WEIGHTS)


def newest_in(folder: Path) -> Path:
    """The newest checkpoint."""
    return max(folder.glob("epoch-*.keras"), key=lambda path: path.name)
