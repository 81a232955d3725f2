"""The command measures a real script with real workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tfdist.bench.measured import Measured

SCRIPT = """
import keras, numpy as np, sys, tfdist
strategy = tfdist.strategy()
x = np.ones((640, 4), "float32")
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
tfdist.plug(model).fit(x, x[:, :1], batch_size=int(sys.argv[1]), epochs=1000, verbose=0)
raise AssertionError("the measurement should have ended this process")
"""


def bench(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfdist", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        check=False,
    )


@pytest.mark.thorough
@pytest.mark.parametrize("batch", [32, 320], ids=["20_steps_an_epoch", "2_steps_an_epoch"])
def test_a_script_of_ones_own_on_one_and_two_workers(tmp_path: Path, batch: int) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    ran = bench("--workers", "1,2", "--seconds", "1", "train.py", batch, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    measured = Measured.from_json((tmp_path / "tfdist_bench" / "bench.json").read_text())
    assert [job.workers for job in measured.jobs] == [1, 2]
    assert [job.slowest.rows for job in measured.jobs] == [
        batch,
        batch,
    ]  # the script's global batch
    assert measured.jobs[1].slowest.gradient_bytes == 5 * 4
    assert (
        measured.jobs[0].slowest.split.all_reduce == 0 < measured.jobs[1].slowest.split.all_reduce
    )
    assert "predicted: workers" in ran.stdout
    assert (tmp_path / "tfdist_bench" / "bench.png").stat().st_size > 1000


def test_a_script_and_a_model_at_once_are_refused(tmp_path: Path) -> None:
    ran = bench("--model", "tiny", "train.py", cwd=tmp_path)
    assert (ran.returncode, "give a script of your own, or --model" in ran.stderr) == (64, True)


def test_a_script_that_fails_shows_the_end_of_its_output(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise ValueError('no data here')")
    ran = bench("--workers", "1", "train.py", cwd=tmp_path)
    assert ran.returncode == 1
    assert "no data here" in ran.stderr
