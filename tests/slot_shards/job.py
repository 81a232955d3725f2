"""Trains with whole slots and with shares on the workers of this job, and notes what comes of it.

tfdist run --workers 2 job.py FOLDER
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import tfdist

folder = Path(sys.argv[1])
strategy = tfdist.strategy(rendezvous_timeout=60)

import keras  # noqa: E402
import numpy as np  # noqa: E402

from tests.slot_shards.programs import FIT, USUAL, X, Y, train  # noqa: E402
from tfdist.training.plugged import Plugged  # noqa: E402

cluster = tfdist.Cluster.from_environment()
assert cluster is not None
assert cluster.task is not None
own = cluster.task.index
found: dict[str, Any] = {}


def plugged(**options: Any) -> Any:
    return lambda model: tfdist.plug(model, **options)


def collectives(model: keras.Model) -> list[str]:
    """By which of TensorFlow's collectives a step's graph exchanges anything."""
    functions = Plugged.of(model)._loop.family._functions.items()  # type: ignore[union-attr]
    steps = [function for key, function in functions if key[:2] == ("one", "train")]
    graphs = [one.graph for step in steps for one in step._list_all_concrete_functions()]
    types = {operation.type for graph in graphs for operation in graph.get_operations()}
    return sorted(kind for kind in types if kind.startswith("Collective"))


def in_file(model: keras.Model, path: Path) -> list[np.ndarray]:
    """The optimizer's variables that plain Keras reads from the model's file."""
    model.save(path)
    return [v.numpy() for v in keras.models.load_model(path).optimizer.variables]


for name in USUAL:
    whole = train(name, strategy.scope(), plugged())
    shared = train(name, strategy.scope(), plugged(shard_optimizer=True))
    slots = [
        sum(v.numpy().size for v in model.optimizer.variables if v.shape.rank)
        for model in (whole, shared)
    ]
    found[name] = {
        "weights": [whole.get_weights(), shared.get_weights()],
        "slots": slots,
        "collectives": [collectives(whole), collectives(shared)],
        "file": None,
    }
    if name != "a step that looks at gradients":  # which Keras could not make again
        found[name]["file"] = [
            [v.numpy() for v in whole.optimizer.variables],
            in_file(shared, folder / f"{name}-{own}.keras"),
        ]
    print(name, flush=True)

found["virtual"] = []
for name in ("decay, clipping and averages", "clipping of sparse gradients"):
    virtual = [
        train(name, strategy.scope(), plugged(virtual_replicas=4, **more))
        for more in ({}, {"shard_optimizer": True})
    ]
    found["virtual"].append([model.get_weights() for model in virtual])
print("virtual", flush=True)

# A file is taken up: by load_model, whose optimizer is built with whole slots, and goes on.
first = train("adam", strategy.scope(), plugged(shard_optimizer=True))
path = folder / f"taken-up-{own}.keras"
first.save(path)
first.fit(X, Y, **FIT)
with strategy.scope():
    second = keras.models.load_model(path)
tfdist.plug(second, shard_optimizer=True)
second.fit(X, Y, **FIT)
found["taken up"] = [first.get_weights(), second.get_weights()]
print("taken up", flush=True)


class Save(keras.callbacks.Callback):
    """Has every worker save the model, as the chief's callback does."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        del epoch, logs
        self.model.save(folder / f"beside-{own}.keras")


# Keras' own callback writes on the chief alone, and the user's beside it on all.
kept = folder / "model-checkpoint.keras"
first.fit(X, Y, callbacks=[keras.callbacks.ModelCheckpoint(kept), Save()], **FIT)
beside = keras.models.load_model(folder / f"beside-{own}.keras")
found["written beside the chief"] = [v.numpy() for v in beside.optimizer.variables]
found["written by the chief"] = None
if tfdist.is_chief():
    found["written by the chief"] = [
        v.numpy() for v in keras.models.load_model(kept).optimizer.variables
    ]
found["written by all"] = in_file(first, folder / f"all-{own}.keras")

# The chief alone saves: told at once, where the others do something else.
try:
    if tfdist.is_chief():
        first.save(folder / "alone.keras")
    else:
        first.evaluate(X, Y, verbose=0)
except tfdist.errors.DataError as error:
    found["saved alone"] = str(error)

(folder / f"found-{own}.pickle").write_bytes(pickle.dumps(found))
