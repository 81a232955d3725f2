"""`tfdist run --plug`: scripts written for TensorFlow's own strategies train unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import pytest

from tests.conftest import RunJob

HERE = Path(__file__).parent


def test_a_multi_worker_script_trains_unchanged(run_job: RunJob, tmp_path: Path) -> None:
    ran = run_job(["--plug", "--workers", 2, HERE / "tutorial.py", tmp_path])
    assert ran.returncode == 0, ran.stderr
    histories = [json.loads((tmp_path / f"history-{i}.json").read_text()) for i in range(2)]
    assert histories[0] == histories[1]
    assert histories[0]["accuracy"][-1] > 0.9
    assert keras.models.load_model(tmp_path / "model.keras").count_params() == 5930
    bars = [line for line in ran.stdout.splitlines() if "Epoch 1/3" in line]
    assert len(bars) == 1


@pytest.mark.thorough
def test_without_plug_the_script_fails_as_ever(run_job: RunJob, tmp_path: Path) -> None:
    # If this passes one day, Keras trains on several workers by itself.
    ran = run_job(["--workers", 2, HERE / "tutorial.py", tmp_path])
    assert ran.returncode == 1
    assert "PerReplica" in ran.stderr + ran.stdout


def test_a_mirrored_script_is_plugged_and_other_models_are_left_alone(run_job: RunJob) -> None:
    ran = run_job(["--plug", HERE / "mirrored.py", "--its", "flags"])
    assert ran.returncode == 0, ran.stderr
    assert "plugged: True False ['--its', 'flags']" in ran.stdout


def test_a_misspelt_spec_is_told_before_the_script_makes_its_strategy(
    run_job: RunJob, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "os.environ['TF_CONFIG'] = '{\"clutser\": {}}'\n"
        "import tensorflow as tf, keras\n"
        "tf.distribute.MultiWorkerMirroredStrategy()\n"
    )
    ran = run_job(["--plug", script])
    assert ran.returncode == 64
    assert "did you mean 'cluster'" in ran.stderr + ran.stdout
