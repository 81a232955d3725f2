"""Weights over two real workers, as their chief sees it.

tfdist run --workers 2 --chief job.py FOLDER
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import tfdist
from tests.tensor_parallel.layout import LAYOUT

folder = Path(sys.argv[1])
lose = len(sys.argv) > 2
if lose:
    task = json.loads(os.environ["TF_CONFIG"])["task"]
    (folder / f"pid{task['type']}{task['index']}").write_text(str(os.getpid()))
kind: Any = "tensor_parallel"
given: Any = None if lose else LAYOUT
strategy = tfdist.strategy(kind, layout_map=given, rendezvous_timeout=60)  # workers serve here

import keras  # noqa: E402
import numpy as np  # noqa: E402

from tests.multi_worker import programs  # noqa: E402
from tests.tensor_parallel import programs_in_parts as own  # noqa: E402
from tests.training.models import FIT, LABELS, TOKENS  # noqa: E402


def in_parts() -> keras.Model:
    keras.utils.set_random_seed(programs.SEED)
    with strategy.scope():
        model = own.sentences()
    return tfdist.plug(model)


def lose_a_worker() -> None:
    """Kills worker:1 after the first epoch; the next step must say so."""

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            os.kill(int((folder / "pidworker1").read_text()), signal.SIGKILL)

    with strategy.scope():
        model = keras.Sequential([keras.Input((256,)), keras.layers.Dense(256)])
        model.compile("sgd", "mse")
    rows = np.ones((64, 256), "float32")
    tfdist.plug(model).fit(rows, rows, epochs=50, verbose=0, callbacks=[Kill()])


def main() -> None:
    if lose:
        lose_a_worker()
        return
    model = in_parts()
    settings: dict[str, Any] = {**FIT, "shuffle": False}
    checkpoint = tfdist.callbacks.Checkpoint(folder / "run", every_steps=3)
    first = model.fit(TOKENS, LABELS, **{**settings, "epochs": 1}, callbacks=[checkpoint])
    again = in_parts()
    checkpoint = tfdist.callbacks.Checkpoint(folder / "run", every_steps=3)
    second = again.fit(TOKENS, LABELS, **settings, callbacks=[checkpoint])
    again.save(folder / "saved.keras")
    devices = {v.path: v.value.device for v in again.trainable_weights}
    slots = {v.path: v.value.device for v in again.optimizer.variables}
    found = {
        "loss": [*first.history["loss"], *second.history["loss"]],
        "predicted": again.predict(TOKENS, verbose=0),
        "devices": devices,
        "slots": slots,
    }
    with contextlib.suppress(OSError):
        (folder / "found.pickle").write_bytes(pickle.dumps(found))


main()
