"""Trains until it is killed; its chief kills ps:0 a moment after training has begun.

tfdist run --workers 1 --ps 1 lost_ps.py FOLDER
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import tfdist

folder = Path(sys.argv[1])
cluster = tfdist.Cluster.from_environment()
assert cluster is not None
assert cluster.task is not None
(folder / f"{cluster.task.type}-{cluster.task.index}.pid").write_text(str(os.getpid()))
strategy = tfdist.strategy(rendezvous_timeout=60)

import keras  # noqa: E402
import numpy as np  # noqa: E402


class Killer(keras.callbacks.Callback):
    """Kills the server of the variables once an epoch has ended."""

    chunks_will_do = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 0:
            print("training", flush=True)
            pid = int((folder / "ps-0.pid").read_text())
            threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()


with strategy.scope():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
tfdist.plug(model)
model.fit(np.ones((64, 8)), np.ones((64, 1)), 8, epochs=1_000_000, verbose=0, callbacks=[Killer()])
