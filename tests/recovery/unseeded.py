"""Counts in a variable how often each example is trained, without any seed; may end early.

tfdist run --workers 2 unseeded.py FOLDER arrays|dataset [BATCHES]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfdist

folder, kind = Path(sys.argv[1]), sys.argv[2]
end_after = int(sys.argv[3]) if len(sys.argv) > 3 else 0

strategy = tfdist.strategy(rendezvous_timeout=60)
x = np.arange(60, dtype="float32")[:, None]


class Counts(keras.Model):
    """Trains nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = self.add_weight(
            shape=(60,), initializer="zeros", trainable=False, aggregation="sum", name="seen"
        )

    def train_step(self, data: Any) -> dict[str, Any]:
        rows = tf.one_hot(tf.cast(data[0][:, 0], tf.int32), 60)
        self.seen.assign_add(tf.reduce_sum(rows, 0))
        return {"loss": tf.reduce_mean(data[0])}


class End(keras.callbacks.Callback):
    """Ends this process after some batches."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.count += 1
        if self.count == end_after:
            sys.exit(3)


with strategy.scope():
    model = Counts()
    model.compile(optimizer="sgd")
tfdist.plug(model)
data: dict[str, Any] = {"x": x, "y": x, "batch_size": 8}
if kind == "dataset":
    data = {"x": tf.data.Dataset.from_tensor_slices((x, x)).shuffle(30).batch(8)}
keep = tfdist.callbacks.Checkpoint(folder, every_steps=1)
model.fit(**data, epochs=2, verbose=0, callbacks=[keep, End()])
if tfdist.is_chief():
    (folder / "seen.json").write_text(json.dumps(np.asarray(model.seen).tolist()))
