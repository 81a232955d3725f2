"""Two workers write the same files, and bring data of their own.

tfdist run --workers 2 files.py FOLDER
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
from tests.zoo import habits

folder = Path(sys.argv[1])
strategy = tfdist.strategy(rendezvous_timeout=60)
cluster = tfdist.environments.detect_cluster()
own = cluster.task.index if cluster and cluster.task else 0

rng = np.random.default_rng(0)
x = rng.normal(size=(105, 8)).astype("float32")
y = rng.integers(0, 3, 105)
found: dict[str, Any] = {}


def make() -> keras.Model:
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(3), keras.layers.BatchNormalization()]
        )
        model.compile(
            optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    return tfdist.plug(model)


# Every worker saves to the same paths, at the same time.
model = make()
writers = [
    keras.callbacks.ModelCheckpoint(folder / "best.keras", monitor="loss", save_best_only=True),
    keras.callbacks.CSVLogger(folder / "log.csv"),
    keras.callbacks.TensorBoard(folder / "board"),
]
model.fit(x, y, epochs=2, verbose=0, callbacks=writers)
for _ in range(3):
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    model.export(folder / "exported", verbose=False)
np.save(folder / f"predicted-{own}.npy", model.predict(x, verbose=0))

# What BackupAndRestore restores on the chief, all take over.
backup = str(folder / f"backup-{own}")
keep = keras.callbacks.BackupAndRestore(backup, delete_checkpoint=False)
first = make()
first.fit(x, y, epochs=2, shuffle=False, verbose=0, callbacks=[keep])
again = make()
resumed = again.fit(
    x,
    y,
    epochs=4,
    shuffle=False,
    verbose=0,
    callbacks=[keras.callbacks.BackupAndRestore(backup, delete_checkpoint=False)],
)
found["resumed epochs"] = resumed.epoch
straight = make().fit(x, y, epochs=4, shuffle=False, verbose=0)
found["resumed loss"] = resumed.history["loss"]
found["straight loss"] = straight.history["loss"]

# So are the states of several optimizers of a class's own, which only the chief has restored.
backup = str(folder / f"wide-and-deep-{own}")


def wide_and_deep(epochs: int, *callbacks: keras.callbacks.Callback) -> Any:
    keras.utils.set_random_seed(1)
    with strategy.scope():
        made: Any = tfdist.plug(habits.two_optimizers())
    settings = {"batch_size": 32, "epochs": epochs, "shuffle": False, "verbose": 0}
    history = made.fit(x, x[:, :1], callbacks=list(callbacks), **settings)
    optimizers = [made.wide_optimizer, made.deep_optimizer]
    state = [np.asarray(v).tolist() for one in optimizers for v in one.variables]
    weights = [weight.tolist() for weight in made.get_weights()]
    return {"epochs": history.epoch, "loss": history.history, "state": state, "weights": weights}


def keeping() -> keras.callbacks.Callback:
    return keras.callbacks.BackupAndRestore(backup, delete_checkpoint=False)


wide_and_deep(2, keeping())
found["resumed, two optimizers"] = wide_and_deep(4, keeping())
found["straight, two optimizers"] = wide_and_deep(4)


# Data of their own, of different amounts: 41 examples here, 64 there.
def mine(context: tf.distribute.InputContext) -> tf.data.Dataset:
    part = slice(0, 41) if context.input_pipeline_id == 0 else slice(41, 105)
    dataset = tf.data.Dataset.from_tensor_slices((x[part], y[part]))
    return dataset.batch(context.get_per_replica_batch_size(32))


def plain(seed_model: keras.Model) -> keras.Model:
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        model.compile(
            optimizer=keras.optimizers.SGD(0.1),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    return tfdist.plug(model)


parts = plain(model)
history = parts.fit(mine, epochs=2, verbose=0, validation_data=None).history
found["own data"] = history
found["own data evaluated"] = parts.evaluate(mine, verbose=0)
found["own weights"] = [weight.tolist() for weight in parts.get_weights()]
(folder / f"found-{own}.json").write_text(json.dumps(found))
