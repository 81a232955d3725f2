"""Trains a small model with a checkpoint for an evaluator beside it, in one script for both.

tfdist run --workers 1 --evaluator evaluated.py FOLDER EPOCHS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np

import tfdist
from tfdist import process

folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
strategy = tfdist.strategy(rendezvous_timeout=60)
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
callbacks = [
    tfdist.callbacks.Checkpoint(folder / "run"),
    keras.callbacks.TensorBoard(folder / "board"),
]
history = model.fit(x, y, epochs=epochs, verbose=0, validation_data=(x, y), callbacks=callbacks)
found = {
    "epochs": history.epoch,
    "history": history.history,
    "evaluated": model.evaluate(x, y, verbose=0),
    "is_chief": tfdist.is_chief(),
}
name = "evaluator" if process.current().is_evaluator else "trainer"
(folder / f"{name}.json").write_text(json.dumps(found))
