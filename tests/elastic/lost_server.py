"""Trains on parameter servers, of which one is killed in the middle of an epoch.

tfdist run --workers 1 --ps 1:2 lost_server.py FOLDER [PS EPOCH STEP]

PAUSE in the environment: seconds for each step. The chief writes FOLDER/result.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import tfdist

folder, fault = Path(sys.argv[1]), sys.argv[2:5]
pause = float(os.environ.get("PAUSE", "0"))
cluster = tfdist.Cluster.from_environment()
assert cluster is not None
assert cluster.task is not None
(folder / f"{cluster.task}.pid").write_text(str(os.getpid()))
strategy = tfdist.strategy(rendezvous_timeout=60)

import keras  # noqa: E402
import numpy as np  # noqa: E402

ROWS, BATCH, EPOCHS, IDS = 105, 16, 4, 60

keras.utils.set_random_seed(1)
rng = np.random.default_rng(0)
x = rng.integers(0, IDS, (ROWS, 5))
y = rng.integers(0, 3, ROWS)

with strategy.scope():
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            keras.layers.Embedding(IDS, 8, name="table"),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dense(3),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
tfdist.plug(model, shard_embeddings_from=1)


class Fault(keras.callbacks.Callback):
    """Kills a server once; else it takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.servers: list[int] = []

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        assert cluster is not None
        with (folder / "servers.txt").open("a") as notes:
            notes.write(f"{self.epoch * 7 + batch} {len(cluster.jobs['ps'])}\n")
        done = folder / "killed"
        if fault and (self.epoch, batch) == (int(fault[1]), int(fault[2])) and not done.exists():
            done.touch()
            os.kill(int((folder / f"{fault[0]}.pid").read_text()), signal.SIGKILL)
        time.sleep(pause)


history = model.fit(
    x,
    y,
    BATCH,
    epochs=EPOCHS,
    verbose=0,
    callbacks=[tfdist.callbacks.Checkpoint(folder / "run", every_steps=2), Fault()],
)
model.save(folder / "model.keras")
plain = keras.models.load_model(folder / "model.keras")  # whole, however many shards there were
result = {
    "history": history.history,
    "epochs": history.epoch,
    "iterations": int(model.optimizer.iterations.numpy()),
    "values": [np.asarray(value).tolist() for value in plain.get_weights()],
    "slots": [np.asarray(one).tolist() for one in plain.optimizer.variables],
}
(folder / "result.json").write_text(json.dumps(result))
