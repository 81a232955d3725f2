"""A real script is planned with real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import keras, numpy as np
from keras.layers import Dense, Embedding, Flatten
x = np.arange(256, dtype="int32").reshape(64, 4)
model = keras.Sequential(
    [keras.Input((4,), dtype="int32"), Embedding(5000, 16), Flatten(), Dense(1)]
)
model.compile("adam", "mse")
model.fit(x, x[:, :1] / 256, batch_size=32, epochs=100000, verbose=0)
raise AssertionError("the measurement should have ended this process")
"""


def plan(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfdist", "plan", *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        cwd=cwd,
        check=False,
    )


def test_a_plain_keras_script_is_planned(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    words = ["--plug", "--json", "--seconds", "0.5", "--workers", "4", "train.py"]
    ran = plan(*words, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(ran.stdout)
    one = told["memory"][0]
    weights = 4 * (5000 * 16 + 4 * 16 + 1)
    assert one["gradients"] == weights
    assert 2 * weights <= one["slots"] <= 2 * weights + 16  # Adam's moments, its step and rate
    assert 200e6 < one["total"] < 3e9
    assert [task["task"] for task in told["memory"][-2:]] == ["stage 0", "stage 1"]
    assert [step["workers"] for step in told["steps"]] == [1, 2, 4]
    assert [step["rows"] for step in told["steps"]] == [32, 32, 32]
    assert all(step["seconds"] > 0 for step in told["steps"])
    others = {step["strategy"]: step for step in told["other_steps"]}
    served = ["1 worker, 1 ps", "2 workers, 1 ps", "4 workers, 1 ps"]
    shared = ["2 workers, shard_optimizer", "4 workers, shard_optimizer"]
    assert list(others) == [*shared, "2-stage pipeline", *served]  # three layers
    slots = {task["strategy"]: task["slots"] for task in told["memory"]}
    assert slots[shared[0]] == -(-one["slots"] // 2)
    assert all(step["seconds"] > 0 and not step["is_measured"] for step in others.values())
    one_served = others[served[0]]
    together = one_served["compute"] + one_served["update"]
    split = told["steps"][0]["split"]
    assert together <= (split["compute"] + split["input"]) * (1 + 1e-9)
    assert one_served["transfer"] > 0
    assert told["recommended"]


def test_a_script_that_never_trains_is_ended_at_the_deadline(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import time\ntime.sleep(600)\n")
    ran = plan("--deadline", "3", "train.py", cwd=tmp_path)
    assert ran.returncode == 1
    assert "no fit has begun within 3 s" in ran.stderr
