"""Trains one of five models; tells this task's peak memory and the seconds of a step.

    python -m tests.benchmarks.planned_job MODEL STEPS auto|pipeline|shares

It stands for a user's script: `tests.benchmarks.planned` plans it, and runs it.
"""

from __future__ import annotations

import sys
import threading
import time

import keras
import numpy as np

import tfdist
from tfdist.machine import process_memory

BATCH = {"mlp": 128, "wide": 256, "cnn": 32, "lstm": 64, "tiny": 64}
_TIMES = 3  # so often a part of the steps is timed, each by itself
SHAPES = {"mlp": (784,), "wide": (256,), "cnn": (64, 64, 3), "lstm": (64, 32), "tiny": (8,)}


def tell_peaks() -> None:
    """Tells the peak whenever it has grown: a server or a stage is not asked before its end."""
    told = 0
    while True:
        if (now := process_memory.peak()) > 1.001 * told:
            told = now
            print(f"PEAK {told}", flush=True)
        time.sleep(0.5)


def layers_of(name: str) -> list[keras.layers.Layer]:
    layers = keras.layers
    if name == "mlp":
        return [layers.Dense(2048, activation="relu") for _ in range(2)]
    if name == "wide":
        return [layers.Dense(1024, activation="relu") for _ in range(8)]
    if name == "cnn":
        return [
            layers.Conv2D(32, 3, activation="relu", padding="same"),
            layers.Conv2D(32, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
        ]
    if name == "lstm":
        return [layers.LSTM(128, return_sequences=True), layers.LSTM(128)]
    return []


class EpochTime(keras.callbacks.Callback):
    """Tells the seconds of a step, with all that is between two epochs; the first one traces."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps
        self._ended = 0.0

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        now = time.perf_counter()
        if epoch:
            print(f"STEP {(now - self._ended) / self._steps}", flush=True)
        self._ended = now


def main(name: str, steps: int, kind: str) -> None:
    threading.Thread(target=tell_peaks, daemon=True).start()
    strategy = tfdist.strategy("pipeline" if kind == "pipeline" else "auto")
    batch = BATCH[name]
    random = np.random.default_rng(0)
    x = random.normal(size=(batch * 4, *SHAPES[name])).astype(np.float32)
    y = random.integers(0, 10, len(x))
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input(SHAPES[name]), *layers_of(name), keras.layers.Dense(10)]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
    tfdist.plug(model, shard_optimizer=kind == "shares")
    each = -(-steps // _TIMES)
    x, y = (np.concatenate([part] * -(-each // 4))[: each * batch] for part in (x, y))
    timed = [EpochTime(each)]
    model.fit(x, y, batch_size=batch, epochs=1 + _TIMES, verbose=0, callbacks=timed)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
