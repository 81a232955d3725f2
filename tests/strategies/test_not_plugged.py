"""A model that was not plugged fails in Keras, and is told what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import RunJob

SCRIPT = """
import tfdist

strategy = tfdist.strategy(rendezvous_timeout=60)
import keras, numpy as np

with strategy.scope():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
model.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)
"""


@pytest.mark.timeout(120)
def test_keras_own_fit_is_told_what_is_missing(run_job: RunJob, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    ran = run_job(["--workers", 2, script], timeout=100)
    assert ran.returncode == 1
    assert "[tfdist] no model was plugged: Keras' own fit does not train under" in ran.stderr
