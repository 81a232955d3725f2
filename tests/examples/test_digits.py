"""The digits example, as people run it: two worker processes on this machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import RunJob


@pytest.mark.thorough  # `scripts/train` and the README's first example do the same
def test_two_workers_learn_the_digits_and_save_a_plain_keras_model(
    run_job: RunJob, tmp_path: Path
) -> None:
    path = tmp_path / "digits.keras"
    done = run_job(["--workers", "2", "-m", "tfdist.examples.digits", "--save", path])
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.findall(r"test accuracy: ([\d.]+)", done.stdout)
    assert len(told) == 1, done.stdout
    assert float(told[0]) > 0.95

    import keras

    from tfdist.examples import data

    images, labels = data.digits()[1]
    predicted = keras.models.load_model(path).predict(images, verbose=0).argmax(axis=1)
    assert abs((predicted == labels).mean() - float(told[0])) < 1e-4
