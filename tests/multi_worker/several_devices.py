"""Trains on workers of two devices each, as several GPUs would be; each writes what came of it.

tfdist run --workers 2 several_devices.py FOLDER DEVICES

A worker's devices are parts of its CPU: TensorFlow's strategy is made to take them for all it has.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy

count = int(sys.argv[2])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)


def all_parts(self: Any, resolver: Any, worker: str) -> tuple[tuple[str, ...], str]:
    return tuple(f"{worker}/device:CPU:{i}" for i in range(count)), "CPU"


collective_all_reduce_strategy.CollectiveAllReduceExtended._initialize_local_devices = all_parts

import keras  # noqa: E402
from keras import layers  # noqa: E402

import tfdist  # noqa: E402
from tests.training.models import LABELS, X  # noqa: E402

strategy = tfdist.strategy(rendezvous_timeout=60)
keras.utils.set_random_seed(7)
with strategy.scope():
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(6, "relu"), layers.Dropout(0.3), layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
tfdist.plug(model)
found = {
    "replicas": strategy.num_replicas_in_sync,
    "history": model.fit(X, LABELS, batch_size=16, epochs=2, verbose=0).history,
    "evaluation": model.evaluate(X, LABELS, verbose=0),
    "prediction": model.predict(X, verbose=0),
    "weights": model.get_weights(),
}
task = tfdist.process.current().task
name = f"found-{task.index if task else 'alone'}.pickle"
(Path(sys.argv[1]) / name).write_bytes(pickle.dumps(found))
