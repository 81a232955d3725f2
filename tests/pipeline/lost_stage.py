"""Kills worker:1 of its own pipeline in the middle of an epoch.

tfdist run --workers 2 --chief lost_stage.py FOLDER
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
strategy = tfdist.strategy("pipeline", microbatches=2, rendezvous_timeout=60)

import keras  # noqa: E402

from tests.multi_worker.programs import LABELS, X  # noqa: E402
from tests.pipeline.stacks import stack  # noqa: E402


class Killer(keras.callbacks.Callback):
    """Kills the worker a moment after training has begun."""

    chunks_will_do = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 0:
            print("training", flush=True)
            pid = int((folder / "worker-1.pid").read_text())
            threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()


with strategy.scope():
    model = stack()
tfdist.plug(model)
model.fit(X, LABELS, 32, epochs=100_000, verbose=0, callbacks=[Killer()])
