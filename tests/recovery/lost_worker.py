"""Kills a random worker of its own parameter-server job in every round, in the middle of an epoch.

    tfdist run --workers 2 --ps 2 --max_restarts 40 lost_worker.py FOLDER ROUNDS [SIGNAL]

The chief prints a line for each round, and writes what it has counted as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import tfdist

folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
how = signal.Signals[sys.argv[3] if len(sys.argv) > 3 else "SIGKILL"]
cluster = tfdist.Cluster.from_environment()
assert cluster is not None
assert cluster.task is not None
workers = len(cluster.jobs["worker"])
(folder / f"{cluster.task.type}-{cluster.task.index}.pid").write_text(str(os.getpid()))
strategy = tfdist.strategy(rendezvous_timeout=60)

import keras  # noqa: E402
import numpy as np  # noqa: E402

STEPS, BATCH = 400, 16
rng = np.random.default_rng(1)
x = rng.normal(size=(STEPS * BATCH - 5, 256)).astype("float32")
y = rng.integers(0, 10, len(x))


def pid_of(worker: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int((folder / f"worker-{worker}.pid").read_text())
    return 0


class Killer(keras.callbacks.Callback):
    """Kills a worker when the first steps of an epoch have ended, or up to 0.3 s after that."""

    chunks_will_do = True

    def __init__(self, longest: float) -> None:
        super().__init__()
        self.longest = longest
        self.killed: tuple[int, int] | None = None
        self.left = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.killed is None:
            worker = random.randrange(workers)
            self.killed = (worker, pid_of(worker))
            self.left = STEPS - 1 - batch
            assert self.killed[1] > 0
            delay = random.uniform(0, self.longest)
            threading.Timer(delay, os.kill, (self.killed[1], how)).start()


with strategy.scope():
    model = keras.Sequential(
        [
            keras.Input((256,)),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
tfdist.plug(model)
found: list[dict[str, Any]] = []
for number in range(rounds):
    before = int(model.optimizer.iterations.numpy()) if model.optimizer.built else 0
    killer = Killer(0.3 if number else 0.0)
    began = time.monotonic()
    history = model.fit(x, y, BATCH, verbose=0, callbacks=[killer]).history
    assert killer.killed is not None
    accuracy = model.metrics[-1].metrics[0]
    found.append(
        {
            "killed": killer.killed[0],
            "left": killer.left,
            "examples": float(np.asarray(accuracy.count)),
            "expected": len(x),
            "accuracy": history["accuracy"][0],
            "again": int(model.optimizer.iterations.numpy()) - before - STEPS,
            "seconds": time.monotonic() - began,
        }
    )
    print(f"round {number + 1}: {found[-1]}", flush=True)
    deadline = time.monotonic() + 40
    while pid_of(killer.killed[0]) == killer.killed[1] and time.monotonic() < deadline:
        time.sleep(0.1)  # until it has been started again
(folder / "found.json").write_text(json.dumps(found))
