"""Workers of several devices, and workers that are given GPUs which TensorFlow does not see."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import RunJob
from tests.machine.nvidia_smi import TWO, put_on_path
from tests.training import comparing

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(300)]
SCRIPT = Path(__file__).with_name("several_devices.py")
TRAINS = """\
import numpy as np
import tfdist
strategy = tfdist.strategy(rendezvous_timeout=60)
import keras
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
tfdist.plug(model).fit(np.ones((8, 4)), np.ones((8, 1)), batch_size=4, verbose=0)
print("trained on", strategy.extended.worker_devices)
"""


def found(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = pickle.loads(path.read_bytes())
    return told


def test_two_workers_of_two_devices_each_equal_one_process(run_job: RunJob, tmp_path: Path) -> None:
    ran = run_job(["--workers", 2, SCRIPT, tmp_path, 2], timeout=240)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    subprocess.run([sys.executable, SCRIPT, tmp_path, "1"], check=True, timeout=120)
    alone = found(tmp_path / "found-alone.pickle")
    for number in range(2):
        own = found(tmp_path / f"found-{number}.pickle")
        assert (own.pop("replicas"), alone["replicas"]) == (4, 1)
        for name, value in own.items():
            wanted = alone[name]
            pairs = (
                [(value[one], wanted[one]) for one in wanted]
                if isinstance(value, dict)
                else list(zip(value, wanted, strict=True))
            )
            for one, other in pairs:
                np.testing.assert_allclose(
                    one, other, rtol=comparing.HISTORY, atol=comparing.WEIGHTS, err_msg=name
                )


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables of a machine whose nvidia-smi lists two GPUs."""
    (tmp_path / "bin").mkdir()
    put_on_path(tmp_path / "bin", monkeypatch, TWO)
    (tmp_path / "train.py").write_text(TRAINS)
    return {"PATH": os.environ["PATH"]}


def test_workers_whose_tensorflow_sees_no_gpu_say_that_they_compute_on_the_cpu(
    run_job: RunJob, tmp_path: Path, two_gpus: dict[str, str]
) -> None:
    ran = run_job(["--workers", 2, tmp_path / "train.py"], env=two_gpus)
    assert ran.returncode == 0, ran.stderr
    for number in range(2):
        lines = [line for line in ran.stdout.splitlines() if f"[worker:{number}]" in line]
        assert sum("COMPUTING ON THE CPU: this process may use" in line for line in lines) == 1
        assert any("trained on" in line and "CPU:0" in line for line in lines)


def test_workers_that_must_have_a_gpu_do_not_train_without(
    run_job: RunJob, tmp_path: Path, two_gpus: dict[str, str]
) -> None:
    ran = run_job(["--workers", 2, "--gpus_per_task", 1, tmp_path / "train.py"], env=two_gpus)
    assert ran.returncode == 64, ran.stdout + ran.stderr
    assert "1 GPU(s) were asked for, but TensorFlow sees none" in ran.stdout + ran.stderr
    assert "trained on" not in ran.stdout
