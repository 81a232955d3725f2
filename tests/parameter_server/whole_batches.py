"""A parameter-server job whose batches are one update each; the chief writes what it has seen.

tfdist run --workers 3 --ps 2 whole_batches.py FOLDER
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import tfdist

folder = Path(sys.argv[1])
cluster = tfdist.Cluster.from_environment()
if __name__ == "__main__" and cluster is not None and cluster.task is not None:
    name = f"{cluster.task.type}-{cluster.task.index}"
    (folder / f"{name}.pid").write_text(str(os.getpid()))
strategy = tfdist.strategy(rendezvous_timeout=60)  # workers and ps tasks serve in here

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from tests.parameter_server import whole_models  # noqa: E402

found: dict[str, Any] = {}


def note(what: str, check: Any) -> None:
    """Notes what a check returns, or how it fails."""
    try:
        found[what] = check()
    except (tfdist.errors.TfdistError, tf.errors.OpError, ValueError) as error:
        found[what] = f"{type(error).__name__}: {error}"
    print(what, flush=True)


class Disturbs(keras.callbacks.Callback):
    """Sends signals to a worker, at some batches."""

    def __init__(self, signals: dict[int, tuple[int, signal.Signals]]) -> None:
        super().__init__()
        self._signals = signals
        self._batch = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        del batch, logs
        self._batch += 1
        if self._batch in self._signals:
            worker, number = self._signals[self._batch]
            os.kill(int((folder / f"worker-{worker}.pid").read_text()), number)


def trained(make: Any, spare: int | None, callbacks: Any = (), epochs: int = 2, **more: Any) -> Any:
    model = tfdist.plug(whole_models.made(make, strategy.scope()), backup_workers=spare)
    history = whole_models.fit(model, callbacks=[*callbacks], epochs=epochs, **more)
    return {
        "history": history,
        "weights": model.get_weights(),
        "iterations": int(model.optimizer.iterations.numpy()),
        "variables": [v.path for v in model.variables],
    }


def checkpointed() -> Any:
    """Stops in the middle of the second epoch, and goes on."""

    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if self.model.optimizer.iterations.numpy() == 17:
                raise KeyError("enough")

    for stops in ([Stops()], []):
        keep = tfdist.callbacks.Checkpoint(folder / "kept", every_steps=4)
        with contextlib.suppress(KeyError):
            return trained(whole_models.network, 1, [keep, *stops])
    return None


def on_batches() -> Any:
    model = tfdist.plug(whole_models.made(whole_models.network, strategy.scope()), backup_workers=0)
    logs = [
        model.train_on_batch(whole_models.X[:n], whole_models.Y[:n], return_dict=True)
        for n in (16, 2, 1)  # fewer rows than workers, too
    ]
    return {"logs": logs, "weights": model.get_weights()}


def failed() -> Any:
    """What is told of a batch that cannot be, and what is trained after it."""
    model = tfdist.plug(whole_models.made(whole_models.fails, strategy.scope()), backup_workers=1)
    x = whole_models.X.copy()
    x[100] = 1e7
    start = model.get_weights()
    try:
        model.fit(x, whole_models.Y, 16, shuffle=False, verbose=0)
    except tf.errors.InvalidArgumentError as error:
        told = str(error)
    at = int(model.optimizer.iterations.numpy())
    model.set_weights(start)
    whole_models.fit(model, epochs=2)
    return {"told": "not to be met" in told, "at": at, "weights": model.get_weights()}


def uneven() -> Any:
    """Trains on a batch whose tensors have other numbers of rows."""
    model = tfdist.plug(whole_models.made(whole_models.network, strategy.scope()), backup_workers=0)
    data = tf.data.Dataset.from_tensors((whole_models.X[:16], whole_models.Y[:16], [1.0]))
    return model.fit(data, verbose=0).history


def unplugged() -> Any:
    """What a teacher says that was only made in the scope, before one that was plugged."""
    teacher = whole_models.made(whole_models.network, strategy.scope())
    try:
        teacher.predict(whole_models.X[:8], verbose=0)
    except tfdist.errors.PlugError as error:
        tfdist.plug(teacher).predict(whole_models.X[:8], verbose=0)
        return f"PlugError: {error}"
    return "nothing"


def main() -> None:
    """Notes everything."""
    note("unplugged", unplugged)
    note("draws", lambda: trained(whole_models.draws, 1))
    note("draws again", lambda: trained(whole_models.draws, 1))
    note("failed", failed)
    for make in whole_models.SAME:
        for spare in (0, 1) if make in whole_models.SAME[:2] else (1,):
            note(f"{make.__name__} {spare}", lambda make=make, spare=spare: trained(make, spare))
    note("on_batches", on_batches)
    note("checkpointed", checkpointed)
    for make in whole_models.REFUSED:
        note(make.__name__, lambda make=make: trained(make, 0))
    note("uneven", uneven)
    note("unbuilt", lambda: trained(whole_models.unbuilt, None))
    note("all are backups", lambda: trained(whole_models.network, 3))

    def own() -> Any:
        model = tfdist.plug(
            whole_models.made(whole_models.network, strategy.scope()), backup_workers=1
        )
        data = tf.data.Dataset.from_tensor_slices((whole_models.X, whole_models.Y)).batch(8)
        model.fit(lambda _: data, verbose=0)

    note("own data", own)
    stop = {5: (1, signal.SIGSTOP), 20: (1, signal.SIGCONT)}
    note("stopped", lambda: trained(whole_models.network, 1, [Disturbs(stop)]))
    kill = {5: (2, signal.SIGKILL)}
    note("killed", lambda: trained(whole_models.network, 0, [Disturbs(kill)]))
    (folder / "found.pickle").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main()
