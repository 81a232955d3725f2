"""The chief and workers of `backup_workers`: seconds of an update, turn by turn.

    tfdist run --workers 8 --ps 1 -m tests.benchmarks.backup_workers_job FILE ROUNDS

Workers sleep for each row; worker 0 may be four times slower, or each part may be one of a tenth
that take ten times as long, by chance. Each with 0, 1 and 2 backups, and (None) with all waited
for.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import tfdist

strategy = tfdist.strategy(rendezvous_timeout=60)  # workers and ps tasks serve in here

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402

from tests.benchmarks.sleeping import Sleeps  # noqa: E402
from tfdist.training.parameter_server.backup_tasks import BackupTasks  # noqa: E402

BATCH, UPDATES, COUNTED = 56, 12, 10
SECONDS_A_ROW = 0.1
SLOW = ("nobody", "worker", "parts")
SPARES = (0, 1, 2)


def model_of(spare: int) -> tuple[keras.Model, Sleeps]:
    """A line through points, plugged."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        sleeps = Sleeps(SECONDS_A_ROW)
        model = keras.Sequential([keras.Input((8,)), sleeps, layers.Dense(1)])
        model.compile(keras.optimizers.SGD(1e-3), loss="mse")
    return tfdist.plug(model, backup_workers=spare), sleeps


class _Note(keras.callbacks.Callback):
    """Notes when each batch ends."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        del batch, logs
        self.times.append(time.monotonic())


def measured(rounds: int) -> dict[str, Any]:
    """Means over a turn's updates, for each way and kind of slowness."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(BATCH * UPDATES, 8)).astype("float32")
    y = x.sum(1, keepdims=True)
    patched: Any = BackupTasks
    late = patched.late
    turns: dict[str, list[float]] = {}
    ends = set()
    models = {spare: model_of(spare) for spare in SPARES}
    for model, _ in models.values():
        model.fit(x[:BATCH], y[:BATCH], BATCH, verbose=0)  # traces
    start = models[0][0].layers[-1].get_weights()
    for number in range(rounds):
        ways = [(slow, spare) for slow in SLOW for spare in (None, *SPARES)]
        for slow, spare in ways if number % 2 else reversed(ways):
            patched.late = _never if spare is None else late
            model, sleeps = models[spare or 0]
            model.layers[-1].set_weights(start)
            sleeps.slower.assign(4.0 if slow == "worker" else 1.0)
            sleeps.chance.assign(0.1 if slow == "parts" else 0.0)
            note = _Note()
            model.fit(x, y, BATCH, shuffle=False, callbacks=[note], verbose=0)
            mean = float(np.mean(np.diff(note.times)[-COUNTED:]))
            turns.setdefault(f"{slow}, {spare}", []).append(mean)
            ends.add(float(np.sum(model.layers[-1].get_weights()[0])))
            print(f"slow: {slow}, spare {spare}: {mean:.3f} s an update", flush=True)
    return {"turns": turns, "ends": sorted(ends)}


def _never(*_: Any) -> list[int]:
    """Nothing is late: all are waited for."""
    return []


if __name__ == "__main__":
    file, rounds = sys.argv[1:]
    Path(file).write_text(json.dumps(measured(int(rounds))))
