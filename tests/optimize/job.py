"""L-BFGS on the workers of this parameter-server job; what it finds is in FOLDER/found.pickle.

tfdist run --workers N --ps 2 job.py FOLDER
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import tfdist

folder = Path(sys.argv[1])
cluster = tfdist.Cluster.from_environment()
assert cluster is not None
(folder / str(cluster.task)).write_text(str(os.getpid()))
strategy = tfdist.strategy(rendezvous_timeout=60)  # workers and ps tasks serve in here

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

from tests.optimize.chief_traffic import tcp_bytes  # noqa: E402
from tests.optimize.programs import (  # noqa: E402
    SETTINGS,
    X,
    Y,
    classifier,
    files_of_rows,
    reads,
    recommender,
    recommender_data,
)
from tfdist.optimize import LBFGS, Portions  # noqa: E402

workers = len(cluster.jobs["worker"])
found: dict[str, Any] = {"workers": workers}


def note(name: str, check: Any) -> None:
    """Notes what a check returns, or how it fails."""
    began = time.monotonic()
    try:
        found[name] = check()
    except (tfdist.errors.TfdistError, tf.errors.OpError) as error:
        found[name] = f"{type(error).__name__}: {error}"
    print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


def trained(**settings: Any) -> Any:
    with strategy.scope():
        model = classifier()
    minimum = LBFGS().minimize(model, X, Y, **{**SETTINGS, **settings})
    return {
        "weights": model.get_weights(),
        "loss": minimum.loss,
        "evaluated": model.evaluate(X, Y, verbose=0),
        "copies": minimum.copies,
    }


def read_by_workers() -> Any:
    """The same rows, of which the chief sees none; and what is told where a file is missing."""
    paths = files_of_rows(folder / "rows")
    settings = {name: value for name, value in SETTINGS.items() if name != "batch_size"}
    counted: list[int] = []
    seen = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: counted.append(tcp_bytes()))
    bytes_a_pass = []
    for data in ({"x": X, "y": Y, **SETTINGS}, {"x": Portions(reads(paths), len(paths))}):
        counted.clear()
        with strategy.scope():
            model = classifier()
        minimum = LBFGS().minimize(model, callbacks=[seen], **{**settings, **data})
        passes = sum(minimum.history.history["passes"][1:])
        bytes_a_pass.append((counted[-1] - counted[0]) / passes)
    with strategy.scope():
        other = classifier()
    try:
        LBFGS().minimize(other, Portions(reads([*paths, "missing"]), len(paths) + 1))
    except (tfdist.errors.TfdistError, tf.errors.OpError) as error:
        told = f"{type(error).__name__}: {error}"
    return {
        "weights": model.get_weights(),
        "loss": minimum.loss,
        "bytes": bytes_a_pass,
        "told": told,
    }


def traffic() -> Any:
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((64,)), layers.Dense(8192), layers.Dense(10)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=None, loss=loss)
    counted: list[int] = []
    seen = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: counted.append(tcp_bytes()))
    minimum = LBFGS().minimize(
        model, X[:60], Y[:60], batch_size=12, max_iterations=5, callbacks=[seen], verbose=0
    )
    passes = minimum.history.history["passes"]
    return {
        "weights": sum(weight.nbytes for weight in model.get_weights()),
        "bytes": np.diff(counted).tolist(),
        "passes": passes[1:],
    }


def sharded() -> Any:
    with strategy.scope():
        model = recommender()
    tfdist.plug(model, shard_embeddings_from=1024)
    minimum = LBFGS().minimize(model, *recommender_data(), **SETTINGS)
    paths = [variable.path for variable in model.variables]
    return {"loss": minimum.loss, "shards": sum("embeddings_shard" in path for path in paths)}


def refused_and_right_after() -> Any:
    with strategy.scope():
        model = classifier(layers.Dropout(0.5))
    try:
        LBFGS().minimize(model, X, Y, **SETTINGS)
    except tfdist.errors.PlugError as error:
        return [str(error), trained(max_iterations=2)["loss"]]
    return None


def kept() -> Any:
    directory = folder / "kept"
    trained(max_iterations=6, directory=directory)
    return trained(directory=directory)


class Disturbs(keras.callbacks.Callback):
    """Stops a worker for a while, and then kills another one, in the middle of a pass."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            self._send(0.05, "worker:0", signal.SIGSTOP)
            self._send(2.5, "worker:0", signal.SIGCONT)
        if epoch == 8:
            self._send(0.05, "worker:1", signal.SIGKILL)

    def _send(self, seconds: float, task: str, which: signal.Signals) -> None:
        pid = int((folder / task).read_text())
        threading.Timer(seconds, os.kill, (pid, which)).start()


note("trained", trained)
if workers > 1:
    note("read by workers", read_by_workers)
    note("traffic", traffic)
    note("sharded", sharded)
    note("refused", refused_and_right_after)
    note("kept", kept)
    note("disturbed", lambda: trained(callbacks=[Disturbs()]))
(folder / "found.pickle").write_bytes(pickle.dumps(found))
