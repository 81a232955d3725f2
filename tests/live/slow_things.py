"""A job of two workers in which one thing after the other is slow, and measures itself.

    python slow_things.py FOLDER

Each worker writes what `Phases` says of each `fit`, and what it has slept itself, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfdist

STEPS, EPOCHS, BATCH, PAUSE = 20, 2, 8, 0.05
LONG = 4  # pauses where data are read, far above what a step computes meanwhile on a busy machine
x = np.random.RandomState(0).normal(size=(BATCH * STEPS, 16)).astype("float32")
y = x.sum(axis=1, keepdims=True)


class Sleeper:
    """Sleeps, and knows how long."""

    seconds = 0.0

    def __init__(self, pauses: int = 1) -> None:
        self._pause = pauses * PAUSE

    def sleep(self) -> None:
        began = time.monotonic()
        time.sleep(self._pause)
        self.seconds += time.monotonic() - began


class Idle(keras.callbacks.Callback):
    def __init__(self, sleeper: Sleeper) -> None:
        super().__init__()
        self._sleeper = sleeper

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._sleeper.sleep()


class Saves(keras.callbacks.Callback):
    """Saves a model whose weights take long to be read."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.save(self._path)


class Slow(keras.layers.Layer):
    """Takes its time, in the step or as it is saved."""

    def __init__(self, sleeper: Sleeper, step: bool = False, save: bool = False) -> None:
        super().__init__()
        self._sleeper, self._step, self._save = sleeper, step, save

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if not self._step:
            return inputs
        asleep = tf.py_function(self._sleeper.sleep, [], [])
        with tf.control_dependencies([asleep]):
            return tf.identity(inputs)

    def save_own_variables(self, store: Any) -> None:
        if self._save:
            self._sleeper.sleep()

    def get_config(self) -> dict[str, Any]:
        return {}


def main(folder: Path) -> None:
    strategy = tfdist.strategy()
    worker = 0 if tfdist.is_chief() else 1
    found: dict[str, dict[str, Any]] = {}

    def fit(name: str, sleeper: Sleeper, data: Any, *callbacks: Any, **slow: bool) -> None:
        with strategy.scope():
            layers = [Slow(sleeper, **slow), keras.layers.Dense(1)]
            model = keras.Sequential([keras.Input((16,)), *layers])
            model.compile("sgd", "mse")
        tfdist.plug(model)
        phases = tfdist.callbacks.Phases()
        began = time.monotonic()
        history = model.fit(
            data, epochs=EPOCHS, verbose=2, callbacks=[*callbacks, phases], validation_data=(x, y)
        )
        found[name] = {
            "seconds": phases.seconds,
            "all": time.monotonic() - began,
            "asleep": sleeper.seconds,
            "history": {n: v for n, v in history.history.items() if n.startswith("phase_")},
        }

    whole = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    reader, idler, saver, stepper = Sleeper(LONG), Sleeper(), Sleeper(), Sleeper()

    def rows() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for part in np.split(np.arange(BATCH * STEPS), STEPS // 2):
            reader.sleep()
            yield x[part], y[part]

    specs = (tf.TensorSpec([2 * BATCH, 16]), tf.TensorSpec([2 * BATCH, 1]))
    slow_rows = tf.data.Dataset.from_generator(rows, output_signature=specs)
    known = slow_rows.apply(tf.data.experimental.assert_cardinality(STEPS // 2))
    fit("input in a graph", reader, known)
    reader.seconds = 0.0
    fit("input that Python reads", reader, slow_rows)
    fit("callback", idler, whole, Idle(idler))
    fit("save", saver, whole, Saves(folder / f"{worker}.keras"), save=True)
    fit("peer", stepper, whole, step=worker == 1)
    (folder / f"worker-{worker}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
