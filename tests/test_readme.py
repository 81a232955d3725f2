"""Everything in the README that can be run, is run; `tests/docs` looks at its other commands."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import README, ROOT, blocks, commands

TEXT = README.read_text()
PLAIN = """
import keras, numpy as np

x = np.random.default_rng(0).normal(size=(1000, 8)).astype("float32")
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
model.compile(optimizer="adam", loss="mse")
model.fit(x, x.sum(axis=1, keepdims=True), batch_size=256, verbose=2)
"""


def run(command: str, folder: Path) -> str:
    """Runs a command as a reader would; returns what it wrote."""
    words = shlex.split(command)
    words = words[1:] if words[0] == "python" else ["-m", *words]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_CONFIG", None)
    ran = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the README's script, and one that never heard of tfdist."""
    (script,) = [block.code for block in blocks(README) if block.language == "python"]
    (tmp_path / "train.py").write_text(script)
    (tmp_path / "someone_elses_script.py").write_text(PLAIN)
    return tmp_path


def test_the_first_example_runs_on_two_workers_and_goes_on_in_one_process(folder: Path) -> None:
    said = run(commands("tfdist run")[0], folder)
    assert "global batch 256 = 2 replicas x 128" in said
    assert (folder / "run" / "epoch-00005.keras").is_file()
    said = run("python train.py", folder)
    assert "resuming after epoch 5" in said
    assert "fit(epochs=5) has no epoch left: ask for more, or give an empty folder" in said


def test_the_same_script_runs_on_parameter_servers(folder: Path) -> None:
    assert commands("tfdist run")[1] == "tfdist run --workers 2 --ps 2 train.py"
    run(commands("tfdist run")[1], folder)
    assert (folder / "run" / "epoch-00005.keras").is_file()


def test_a_script_that_never_heard_of_tfdist_runs_on_two_workers(folder: Path) -> None:
    assert "--plug" in commands("tfdist run")[2]
    assert "global batch 256 = 2 replicas x 128" in run(commands("tfdist run")[2], folder)


def test_the_two_commands_are_those_of_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    for script in ("scripts/train", "scripts/test"):
        assert f"\n{script}\n" in TEXT
        assert script in ci
