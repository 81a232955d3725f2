"""Trains, and hangs at the place that it is told, once, for some seconds.

    tfdist run --workers 2 hanging.py FOLDER KIND PLACE TASK SECONDS

PLACE is "generator", "map", "callback", "build", "trace", "step", "validation", "prediction",
"save", "held", "elsewhere", "collective", or "nowhere" for a task that others stop or cut off.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfdist

folder, kind, place, hanging, seconds = Path(sys.argv[1]), *sys.argv[2:5], float(sys.argv[5])
cluster = tfdist.environments.detect_cluster()
assert cluster is not None
task = str(cluster.task)
(folder / f"{task}.pid").write_text(str(os.getpid()))
done = folder / "hung"


def hang(where: str) -> None:
    """Stands still once, where it is to be."""
    if place == where and task == hanging and not done.exists():
        done.touch()
        print(f"{task} hangs now", flush=True)
        if where == "held":
            ctypes.PyDLL(None).sleep(int(seconds))  # lets no other thread of Python run
        else:
            time.sleep(seconds)


strategy = tfdist.strategy(kind, rendezvous_timeout=60)
keras.utils.set_random_seed(1)


class Slow(keras.layers.Layer):
    """As the one before it, but takes its time to be built or to be traced."""

    def build(self, shape: Any) -> None:
        hang("build")

    def call(self, x: Any) -> Any:
        if (folder / "trained").exists():
            hang("trace")
        return x


def slow_rows(x: Any) -> Any:
    hang("step")
    return x


class Model(keras.Sequential):
    """With a step that stands still between two collectives."""

    def train_step(self, data: Any) -> Any:
        if place == "step" and (folder / "trained").exists():
            x, y = data
            x = tf.ensure_shape(tf.py_function(slow_rows, [x], x.dtype), x.shape)
            data = (x, y)
        return super().train_step(data)


x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
y = np.zeros(64, "int32")
epoch = 0


def batches() -> Iterator[Any]:
    for i in range(4):
        if i == 2 and epoch == 1:
            hang("generator")
        yield x[16 * i : 16 * i + 16], y[16 * i : 16 * i + 16]


def mapped(a: Any) -> Any:
    if epoch == 1:
        hang("map")
    return a


specs = (tf.TensorSpec([16, 8], tf.float32), tf.TensorSpec([16], tf.int32))
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
if place == "generator":
    data = tf.data.Dataset.from_generator(batches, output_signature=specs)
    data = data.apply(tf.data.experimental.assert_cardinality(4))
if place == "map":
    data = data.map(
        lambda a, b: (tf.ensure_shape(tf.py_function(mapped, [a], a.dtype), [16, 8]), b)
    )


class Places(keras.callbacks.Callback):
    """Knows the epoch, and stands still itself."""

    def on_epoch_begin(self, number: int, logs: object = None) -> None:
        global epoch
        epoch = number

    def on_epoch_end(self, number: int, logs: object = None) -> None:
        if number == 1:
            hang("callback")
            hang("held")

    def on_test_batch_end(self, batch: int, logs: object = None) -> None:
        if epoch == 1:
            hang("validation")

    def on_predict_batch_begin(self, batch: int, logs: object = None) -> None:
        hang("prediction")


class Slowly(keras.callbacks.Callback):
    """Takes its time, and says which epoch it is."""

    def on_epoch_begin(self, number: int, logs: object = None) -> None:
        print(f"epoch {number}", flush=True)
        time.sleep(0.2)


class SlowDisk(tfdist.callbacks.Checkpoint):
    """Writes to a disk that takes its time."""

    def keep(self, *args: Any, **named: Any) -> None:
        hang("save")
        super().keep(*args, **named)


with strategy.scope():
    cls = Model if kind != "pipeline" else keras.Sequential
    layers = [keras.layers.Dense(16, "relu"), Slow(), keras.layers.Dense(3)]
    model = cls([keras.Input((8,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
tfdist.plug(model)
callbacks = [Places()]
if place == "save":
    callbacks.append(SlowDisk(folder / "run", every_steps=2))
print(f"{task} begins", flush=True)
hang("elsewhere")
model.fit(data, epochs=2, verbose=0, callbacks=callbacks, validation_data=(x, y))
(folder / "trained").touch()
print(f"{task} has trained", flush=True)
if place == "prediction":
    model.predict(x, batch_size=16, verbose=0, callbacks=callbacks)
if place in ("trace", "step"):
    model.compile("sgd", loss)
    model.fit(data, epochs=1, verbose=0)
if place == "collective" and task == hanging:
    done.touch()
    print(f"{task} hangs now", flush=True)
    sys.exit(0)  # without the call that the others make
if place == "collective":
    model.fit(data, epochs=1, verbose=0)
if place == "nowhere":
    model.fit(
        data.repeat(), steps_per_epoch=20, epochs=int(seconds), verbose=0, callbacks=[Slowly()]
    )
print(f"{task} is done", flush=True)
