"""Trains a small model with a checkpoint, and kills a worker where it is told to.

tfdist run --workers 2 train.py FOLDER EPOCHS [KILL_WORKER KILL_EPOCH]
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

import tfdist

folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
kill = tuple(int(word) for word in sys.argv[3:5])

strategy = tfdist.strategy(rendezvous_timeout=60)
cluster = tfdist.environments.detect_cluster()
assert cluster is not None
assert cluster.task is not None
own = cluster.task.index

keras.utils.set_random_seed(1)
rng = np.random.default_rng(0)
x = rng.normal(size=(105, 8)).astype("float32")
y = rng.integers(0, 3, 105)
with strategy.scope():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    model.compile(
        optimizer=keras.optimizers.Adam(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
tfdist.plug(model)


class Kill(keras.callbacks.Callback):
    """Ends this process in the middle of an epoch, as the system does when memory runs out."""

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if (own, self.epoch) == kill and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.epoch = epoch


history = model.fit(
    x,
    y,
    epochs=epochs,
    shuffle=False,
    verbose=0,
    callbacks=[
        # Only the chief needs to see the checkpoints.
        tfdist.callbacks.Checkpoint(folder / f"run-{own}"),
        Kill(),
    ],
)
result = {
    "epochs": history.epoch,
    "history": history.history,
    "weights": [weight.tolist() for weight in model.get_weights()],
    "iterations": int(model.optimizer.iterations.numpy()),
}
(folder / f"result-{own}.json").write_text(json.dumps(result))
