"""Trains twice; between, and at the ends, there is time for others to come and for one to die.

tfdist run --workers 1:2 joined_late.py FOLDER [dies]
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import tfdist

strategy = tfdist.strategy()

import keras  # noqa: E402
import numpy as np  # noqa: E402

folder, dies = Path(sys.argv[1]), "dies" in sys.argv
keras.utils.set_random_seed(1)
x = np.random.default_rng(0).normal(size=(128, 8)).astype("float32")
y = x.sum(1, keepdims=True)


class Waits(keras.callbacks.Callback):
    """Has a long validation, or steps that take their time."""

    def on_test_begin(self, logs: Any = None) -> None:
        (folder / "validates").touch()
        time.sleep(6)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not dies:
            return
        time.sleep(0.2)
        first = not (folder / "dead").exists()
        if first and self.params["epochs"] > 1 and int(self.model.optimizer.iterations) == 12:
            (folder / "dead").touch()
            os.kill(int((folder / "worker:1").read_text()), signal.SIGKILL)


cluster = tfdist.Cluster.from_environment()
assert cluster is not None
(folder / str(cluster.task)).write_text(str(os.getpid()))
with strategy.scope():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
tfdist.plug(model)
for number, epochs in enumerate((1, 10) if dies else (1,)):
    model.fit(
        x,
        y,
        batch_size=32,
        epochs=epochs,
        verbose=2,
        validation_data=None if dies else (x, y),
        callbacks=[tfdist.callbacks.Checkpoint(folder / f"run-{number}"), Waits()],
    )
print(f"after {model.optimizer.iterations.numpy()} steps on {strategy.num_replicas_in_sync}")
