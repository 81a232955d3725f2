"""Trains, and notes which examples each worker has seen in each step; a task may be killed.

tfdist run --workers N resized.py FOLDER [TASK EPOCH STEP]

PAUSE in the environment: seconds for each step; VIRTUAL: how many virtual replicas. While there is
FOLDER/hold, the third step of the second epoch does not end.

Each process writes FOLDER/seen/<start>-<task>.jsonl: a line [step of the job, examples] a step.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfdist
from tests.recovery.losses import Losses

ROWS, BATCH, EPOCHS = 105, 16, 4

folder = Path(sys.argv[1])
fault = sys.argv[2:5]
pause = float(os.environ.get("PAUSE", "0"))
cluster = tfdist.environments.detect_cluster()
task = str(cluster.task) if cluster and cluster.task else "worker:0"
(folder / "seen").mkdir(exist_ok=True)
strategy = tfdist.strategy(rendezvous_timeout=60)
# Now all have met: the files of one run are of one time.
seen = (folder / "seen" / f"{time.time():.3f}-{task}-{os.getpid()}.jsonl").open("a", buffering=1)

keras.utils.set_random_seed(1)
rng = np.random.default_rng(0)
x = rng.normal(size=(ROWS, 8)).astype("float32")
y = rng.integers(0, 3, ROWS)
number = np.arange(ROWS)
data = tf.data.Dataset.from_tensor_slices(((number, x), y)).shuffle(60).batch(BATCH)


class Notes(keras.Model):
    """A classifier whose step notes the numbers of the examples that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(16, "relu")
        self.drop = keras.layers.Dropout(0.3)
        self.out = keras.layers.Dense(3)

    def build(self, shape: Any) -> None:
        self.hidden.build((None, 8))
        self.out.build((None, 16))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.out(self.drop(self.hidden(inputs[1]), training=training))

    def train_step(self, data: Any) -> Any:
        def note(step: np.ndarray, numbers: np.ndarray) -> np.ndarray:
            seen.write(json.dumps([int(step), numbers.tolist()]) + "\n")
            return step

        step = self.optimizer.iterations
        # Its result has to be needed, or the graph would leave it out.
        noted = tf.numpy_function(note, [tf.convert_to_tensor(step), data[0][0]], step.dtype)
        with tf.control_dependencies([noted]):
            return super().train_step(data)


with strategy.scope():
    model = Notes()
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
tfdist.plug(model, virtual_replicas=int(os.environ.get("VIRTUAL", "0")) or None)


class Fault(keras.callbacks.Callback):
    """Kills a task in the middle of an epoch, once; else it takes its time."""

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        done = folder / f"killed-{'-'.join(fault)}"
        here = fault[:1] == [task] and (self.epoch, batch) == (int(fault[1]), int(fault[2]))
        if here and not done.exists():
            done.write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)
        until = time.monotonic() + 200
        while (self.epoch, batch) == (1, 2) and (folder / "hold").exists():
            assert time.monotonic() < until, "held for ever"
            time.sleep(0.05)
        if pause:
            time.sleep(pause)


losses = Losses()
history = model.fit(
    data,
    epochs=EPOCHS,
    verbose=0,
    validation_data=((number[:30], x[:30]), y[:30]),
    callbacks=[
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.9 * rate),
        losses,
        tfdist.callbacks.Checkpoint(folder / "run", every_steps=2),
        Fault(),
    ],
)
result = {
    "history": history.history,
    "epochs": history.epoch,
    "losses": losses.seen,
    "iterations": int(model.optimizer.iterations.numpy()),
    "values": [np.asarray(v).tolist() for v in model.variables if v.dtype == "float32"],
}
if tfdist.is_chief():
    (folder / "result.json").write_text(json.dumps(result))
