"""Trains with a checkpoint of every second step; a task may be killed, or sent a signal.

The kind "virtual" is multi_worker_mirrored with eight virtual replicas, on any number of workers;
"servers" is parameter_server with a table, of which each ps writes its own part of the checkpoints.

tfdist run --workers 2 [--ps 1] exact.py FOLDER KIND [TASK EPOCH STEP SIGNAL]
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfdist
from tests.recovery.losses import Losses
from tfdist.training.embeddings.table_slots import plain_variables

folder, kind = Path(sys.argv[1]), sys.argv[2]
fault = sys.argv[3:7]

cluster = tfdist.environments.detect_cluster()
task = str(cluster.task) if cluster and cluster.task else "chief:0"
(folder / f"{task}.pid").write_text(str(os.getpid()))
virtual, servers = kind == "virtual", kind == "servers"
strategy = tfdist.strategy("auto" if virtual or servers else kind, rendezvous_timeout=60)

keras.utils.set_random_seed(1)
rng = np.random.default_rng(0)
x = rng.normal(size=(105, 8)).astype("float32")
y = rng.integers(0, 3, 105)
# A random order in each epoch, and a last batch that is shared out unevenly.
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(60).map(lambda a, b: (2 * a, b)).batch(16)


class Table(keras.layers.Layer):
    """Looks numbers up, by their first digits."""

    def __init__(self) -> None:
        super().__init__()
        self.table = keras.layers.Embedding(128, 4)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.table(tf.cast(tf.minimum(10 * tf.abs(x), 127.0), tf.int32))


with strategy.scope():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            *([Table(), keras.layers.Flatten()] if servers else []),
            keras.layers.Dense(16, "relu"),
            *([keras.layers.BatchNormalization()] if virtual else []),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(3),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
if servers:
    tfdist.plug(model, shard_embeddings_from=1000)
else:
    tfdist.plug(model, virtual_replicas=8 if virtual else None)


class Fault(keras.callbacks.Callback):
    """Sends a task, this one or one that serves it, a signal in the middle of an epoch, once."""

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        done = folder / "done"
        here = fault and (fault[0] == task or (task == "chief:0" and fault[0] != "worker:1"))
        if not here or done.exists():
            return
        if self.epoch >= int(fault[1]) and batch >= int(fault[2]):
            done.touch()
            pid = int((folder / f"{fault[0]}.pid").read_text())
            os.kill(pid, getattr(signal, fault[3]))


losses = Losses()
started = time.monotonic()
history = model.fit(
    data,
    epochs=4,
    verbose=0,
    validation_data=(x[:30], y[:30]),
    callbacks=[
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.9 * rate),
        keras.callbacks.EarlyStopping("val_loss", patience=9),
        keras.callbacks.ReduceLROnPlateau("val_loss", patience=1),
        losses,
        # Only the chief needs to see the checkpoints.
        tfdist.callbacks.Checkpoint(
            folder / f"run-{task.replace(':', '-')}",
            every_steps=2,
            sharded=True if servers else None,
        ),
        Fault(),
    ],
)
every = [*model.variables, *model.optimizer.variables]
if servers:  # the same variables on any number of them
    every = list(plain_variables(model).values())
result = {
    "history": history.history,
    "epochs": history.epoch,
    "losses": losses.seen,
    "iterations": int(model.optimizer.iterations.numpy()),
    "values": [np.asarray(v).tobytes().hex() for v in every],
}
(folder / f"result-{task.replace(':', '-')}.json").write_text(json.dumps(result))
