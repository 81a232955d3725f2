"""What parameter servers promise, as numbers: lost updates, and killed workers.

    python -m tests.figures.parameter_server [--rounds 20]

First 1,000 steps on 4 workers: how many steps and examples were counted. Then a job in which a
random worker is killed with SIGKILL in the middle of each epoch, and started again by `tfdist run`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import app, flags

FLAGS = flags.FLAGS
ROOT = Path(__file__).parents[2]
COUNTING = """
import json, sys
from pathlib import Path
import tfdist
strategy = tfdist.strategy()
import keras
import numpy as np
import tensorflow as tf
rng = np.random.default_rng(0)
x, y = rng.normal(size=(4096, 32)).astype("float32"), rng.integers(0, 3, 4096)
with strategy.scope():
    layers = [keras.Input((32,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
tfdist.plug(model)
data = tf.data.Dataset.from_tensor_slices((x, y)).repeat().batch(16)
history = model.fit(data, steps_per_epoch=1000, verbose=0).history
accuracy = model.metrics[-1].metrics[0]
Path(sys.argv[1]).write_text(json.dumps({
    "iterations": int(model.optimizer.iterations.numpy()),
    "examples": float(np.asarray(accuracy.count)),
    "accuracy": history["accuracy"][0],
}))
"""


def _run(arguments: list[Any], folder: Path, seconds: float) -> str:
    command = [sys.executable, "-m", "tfdist", "run", *map(str, arguments)]
    ran = subprocess.run(
        command, cwd=folder, timeout=seconds, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        sys.exit(
            f"{command} ended with {ran.returncode}:\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}"
        )
    return ran.stdout


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "counting.py").write_text(COUNTING)
        _run(["--workers", 4, "--ps", 2, "counting.py", "counted.json"], folder, 180)
        counted = json.loads((folder / "counted.json").read_text())
        print("| 4 workers, 2 ps | scheduled | counted |\n|---|---|---|")
        print(f"| steps (`optimizer.iterations`) | 1000 | {counted['iterations']} |")
        print(f"| examples (the accuracy's count) | 16000 | {counted['examples']:.0f} |\n")
        script = ROOT / "tests" / "recovery" / "lost_worker.py"
        restarts = ["--max_restarts", 2 * FLAGS.rounds]
        arguments = ["--workers", 2, "--ps", 2, *restarts, script, folder, FLAGS.rounds]
        _run(arguments, folder, 60.0 * FLAGS.rounds + 60)
        found = json.loads((folder / "found.json").read_text())
        right = sum(one["examples"] == one["expected"] for one in found)
        again = [one["again"] for one in found]
        print("| 2 workers, 2 ps, a worker killed in each epoch | |\n|---|---|")
        print(f"| epochs finished | {len(found)} of {FLAGS.rounds} |")
        print(f"| with every example counted once | {right} of {len(found)} |")
        print(f"| steps applied again in an epoch of 400, at most | {max(again)} |")


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 20, "How many times a worker is killed.", lower_bound=1)
    app.run(main)
