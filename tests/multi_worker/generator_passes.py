"""Trains, validates and evaluates on generators, which every worker reads in several passes.

tfdist run --workers 2 generator_passes.py FOLDER
"""

from __future__ import annotations

import itertools
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tfdist

folder = Path(sys.argv[1])
strategy = tfdist.strategy(rendezvous_timeout=60)

import keras  # noqa: E402
import numpy as np  # noqa: E402

cluster = tfdist.Cluster.from_environment()
assert cluster is not None
assert cluster.task is not None
own = cluster.task.index
found: dict[str, Any] = {}


def numbered(first: int = 0) -> Iterator[Any]:
    """Batches whose targets are their numbers; one worker reads ahead by fewer than the other."""
    for number in itertools.count(first):
        time.sleep(0.02 * own)
        yield np.ones((4, 2), "float32"), np.full((4, 1), number, "float32")


with strategy.scope():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "relu")])
    model.layers[0].set_weights([np.zeros((2, 1)), np.zeros(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
tfdist.plug(model)
slow = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: time.sleep(0.1))
training, validation = numbered(), numbered()
found["fit"] = model.fit(
    training,
    steps_per_epoch=6,
    epochs=3,
    validation_data=validation,
    validation_steps=4,
    verbose=0,
    callbacks=[slow],
).history
found["evaluate"] = [model.evaluate(training, steps=2, verbose=0) for _ in range(3)]
model.predict(training, steps=3, verbose=0)
found["fits"] = [
    model.fit(training, steps_per_epoch=5, verbose=0, callbacks=[slow]).history["loss"][0]
    for _ in range(3)
]
both = numbered()
found["shared"] = model.fit(
    both, steps_per_epoch=3, epochs=3, validation_data=both, validation_steps=2, verbose=0
).history
try:
    model.fit(numbered(own), steps_per_epoch=3, verbose=0)
except tfdist.errors.DataError as error:
    found["apart"] = str(error)
(folder / f"found-{own}.pickle").write_bytes(pickle.dumps(found))
