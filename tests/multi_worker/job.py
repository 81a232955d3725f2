"""Runs every program on the workers of this job, and what only several workers can do wrong.

tfdist run --workers 3 job.py FOLDER
"""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path
from typing import Any

import tfdist

folder = Path(sys.argv[1])
strategy = tfdist.strategy(rendezvous_timeout=60)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

from tests.multi_worker import programs  # noqa: E402
from tests.multi_worker.programs import FIT, LABELS, X  # noqa: E402
from tests.training.examples_counted import SOME, examples_counted  # noqa: E402
from tfdist.compat import keras_data  # noqa: E402

cluster = tfdist.Cluster.from_environment()
assert cluster is not None
assert cluster.task is not None
own = cluster.task.index
found: dict[str, Any] = {}


def note(name: str, check: Any) -> None:
    """Notes what a check returns, or how it fails."""
    began = time.monotonic()
    try:
        found[name] = check()
    except tfdist.errors.TfdistError as error:
        found[name] = f"{type(error).__name__}: {error}"
    print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


def make(*between: Any) -> keras.Model:
    keras.utils.set_random_seed(programs.SEED)
    with strategy.scope():
        model = programs.classifier(keras.optimizers.SGD(0.1), *between)
    return tfdist.plug(model)


for name in programs.USUAL:
    note(name, lambda name=name: programs.run(name, strategy.scope(), tfdist.plug))


def sums() -> dict[str, Any]:
    """What the workers add up, small and large, and by which of TensorFlow's collectives."""
    added: dict[str, Any] = {}
    for count in (1, 1000, 300_000):
        for kind in (tf.float32, tf.int32, tf.bfloat16):

            def on_replica(count: int = count, kind: tf.DType = kind) -> tf.Tensor:
                own_part = tf.cast(tf.range(count) % 7 + 10**own, kind)
                context = tf.distribute.get_replica_context()
                return context.all_reduce(tf.distribute.ReduceOp.SUM, own_part)

            function = tf.function(lambda body=on_replica: strategy.run(body), autograph=False)
            types = {op.type for op in function.get_concrete_function().graph.get_operations()}
            used = sorted(kind for kind in types if kind.startswith("Collective"))
            added[f"{count} {kind.name}"] = (used, np.asarray(tf.cast(function(), tf.float64)))
    return added


note("sums", sums)


def batch_normalization() -> Any:
    model = make(layers.BatchNormalization(momentum=0.5))
    model.fit(X[:96], LABELS[:96], batch_size=96, epochs=1, shuffle=False, verbose=0)
    return [np.asarray(variable) for variable in model.layers[1].non_trainable_variables]


def dropout() -> Any:
    model = make(layers.Dropout(0.5))
    return model.fit(X, LABELS, **FIT).history, model.get_weights()


class StopsHere(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if own == 1 and batch == 2:
            self.model.stop_training = True


def on_the_chief_only() -> Any:
    seen: list[int] = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch),
        on_epoch_end=lambda epoch, logs: seen.append(100 + epoch),
    )
    history = make().fit(X, LABELS, **FIT, callbacks=[watch] if own == 0 else None).history
    return history, len(seen)


def different_data() -> Any:
    order = np.random.default_rng(own).permutation(105)
    return make().fit(X[order], LABELS[order], **FIT).history


def rows_read() -> list[int]:
    """The numbers of the rows that this worker gathers from arrays in one epoch, in order."""
    read: list[int] = []
    gather = keras_data.gather_rows

    def note_rows(numbers: np.ndarray) -> np.ndarray:
        read.extend(numbers.tolist())
        return numbers

    def counting(arrays: Any, numbers: Any) -> Any:
        noted = tf.numpy_function(note_rows, [numbers], tf.int64)
        return gather(arrays, tf.ensure_shape(noted, numbers.shape))

    keras_data.gather_rows = counting
    try:
        make().fit(X, LABELS, **{**FIT, "epochs": 1, "shuffle": False})
    finally:
        keras_data.gather_rows = gather
    return sorted(read)


note("the same strategy again", lambda: tfdist.strategy() is strategy)
note("another strategy", lambda: tfdist.strategy(communication="ring"))
note("a server of its own", lambda: cluster.validate())
note("rows read", rows_read)
note("examples", lambda: examples_counted(make(), *SOME))
note("replicas in sync", lambda: tfdist.ScaledWarmup(0.1, 5).scale)
note("plain batch normalization", batch_normalization)
note("dropout", dropout)
note("callbacks on the chief only", on_the_chief_only)
note(
    "verbose on the chief only",
    lambda: make().fit(X, LABELS, **{**FIT, "verbose": 2 if own == 0 else 0}).history,
)
note(
    "one worker stops",
    lambda: make().fit(X, LABELS, **FIT, callbacks=[StopsHere()]).epoch,
)
note("different data", different_data)
note("different epochs", lambda: make().fit(X, LABELS, **{**FIT, "epochs": 1 + own}).history)
note("after the mistakes", lambda: make().fit(X, LABELS, **FIT).history)
(folder / f"found-{own}.pickle").write_bytes(pickle.dumps(found))
