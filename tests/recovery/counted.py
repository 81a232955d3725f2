"""Trains on parameter servers until it is told to end, and counts the examples of each epoch.

    tfdist run --workers 2 --ps 1 counted.py FOLDER

Each process writes a line with its number into FOLDER/<task>.starts; the chief prints each epoch,
ends after that in which FOLDER/end comes, and writes what it has counted as FOLDER/found.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import keras
import numpy as np

import tfdist

STEPS, BATCH = 40, 16

folder = Path(sys.argv[1])
cluster = tfdist.Cluster.from_environment()
assert cluster is not None
with (folder / f"{cluster.task}.starts").open("a") as starts:
    print(os.getpid(), file=starts)
strategy = tfdist.strategy(rendezvous_timeout=60)

rng = np.random.default_rng(1)
x = rng.normal(size=(STEPS * BATCH - 5, 32)).astype("float32")
y = rng.integers(0, 10, len(x))
examples: list[float] = []


class Count(keras.callbacks.Callback):
    """Counts, and takes its time."""

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        time.sleep(0.02)

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        examples.append(float(np.asarray(model.metrics[-1].metrics[0].count)))
        print(f"epoch {epoch} of {examples[-1]:.0f} examples", flush=True)
        model.stop_training = (folder / "end").exists()


with strategy.scope():
    model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
tfdist.plug(model)
run = tfdist.callbacks.Checkpoint(folder / "run")
model.fit(x, y, BATCH, epochs=100_000, verbose=0, callbacks=[Count(), run])
found = {"examples": sorted(set(examples)), "expected": len(x), "epochs": len(examples)}
(folder / "found.json").write_text(json.dumps(found))
