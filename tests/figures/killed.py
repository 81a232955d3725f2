"""Trains without an end, with a checkpoint of every tenth step, and notes when each step was taken.

tfdist run --workers 2 killed.py FOLDER KIND

FOLDER/steps has a line for each step that the chief has seen: the time, its process, the step.
FOLDER/pids has the process of each task.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import keras
import numpy as np

import tfdist

STEPS, EVERY, PAUSE = 100, 10, 0.03

folder, kind = Path(sys.argv[1]), sys.argv[2]
cluster = tfdist.environments.detect_cluster()
task = str(cluster.task) if cluster and cluster.task else "chief:0"
(folder / "pids" / task).write_text(str(os.getpid()))
strategy = tfdist.strategy(kind)

keras.utils.set_random_seed(1)
rng = np.random.default_rng(0)
x = rng.normal(size=(STEPS * 16, 64)).astype("float32")
y = rng.integers(0, 10, len(x))
with strategy.scope():
    layers = [keras.layers.Dense(64, "relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
tfdist.plug(model)


class Notes(keras.callbacks.Callback):
    """Notes each step, and takes its time, so that there are not thousands."""

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if tfdist.is_chief():
            with (folder / "steps").open("a") as file:
                file.write(f"{time.time()} {os.getpid()} {self.epoch * STEPS + batch}\n")
        time.sleep(PAUSE)


checkpoint = tfdist.callbacks.Checkpoint(folder / "run", every_steps=EVERY)
model.fit(x, y, 16, epochs=100_000, verbose=0, callbacks=[checkpoint, Notes()])
