"""Runs every program on the workers of this parameter-server job, and what only it can show.

tfdist run --workers N --ps 2 job.py FOLDER
"""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import tfdist

folder = Path(sys.argv[1])
strategy = tfdist.strategy(rendezvous_timeout=60)  # workers and ps tasks serve in here

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers, optimizers  # noqa: E402

from tests.multi_worker import programs  # noqa: E402
from tests.multi_worker.programs import LABELS, X  # noqa: E402
from tests.parameter_server import more  # noqa: E402
from tests.training.examples_counted import SOME, examples_counted  # noqa: E402
from tfdist.training.checkpointing import server_files  # noqa: E402
from tfdist.training.parameter_server import asynchronous  # noqa: E402
from tfdist.training.parameter_server.work_queue import WorkQueue  # noqa: E402

cluster = tfdist.Cluster.from_environment()
assert cluster is not None
workers = len(cluster.jobs["worker"])
found: dict[str, Any] = {"is_chief": tfdist.is_chief()}


def note(name: str, check: Any) -> None:
    """Notes what a check returns, or how it fails."""
    began = time.monotonic()
    try:
        found[name] = check()
    except (tfdist.errors.TfdistError, tf.errors.OpError) as error:
        found[name] = f"{type(error).__name__}: {error}"
    print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


def _sgd() -> Any:
    return optimizers.SGD(0.05)


def make(optimizer: Any = None, *between: Any, **options: Any) -> keras.Model:
    keras.utils.set_random_seed(programs.SEED)
    with strategy.scope():
        model = programs.classifier((optimizer or _sgd)(), *between)
    return tfdist.plug(model, **options)


def counted(model: keras.Model, *data: Any, **settings: Any) -> dict[str, float]:
    """What `fit` has counted in its last epoch."""
    history = model.fit(*data, **{"verbose": 0, **settings}).history
    return {
        "iterations": int(model.optimizer.iterations.numpy()),
        "examples": seen_by(model),
        "accuracy": max(history["accuracy"]),
    }


def seen_by(model: keras.Model) -> float:
    """How many examples the model's accuracy has seen since it was set back."""
    return float(np.asarray(model.metrics[-1].metrics[0].count))


def thousand_steps() -> Any:
    data = tf.data.Dataset.from_tensor_slices((X, LABELS)).repeat().batch(4)
    return counted(make(lambda: optimizers.Adam(0.001)), data, steps_per_epoch=1000)


def own_pipelines() -> Any:
    asked = []

    def own(context: Any) -> tf.data.Dataset:
        asked.append((context.num_input_pipelines, context.input_pipeline_id))
        data = tf.data.Dataset.from_tensor_slices((X, LABELS))
        mine = data.shard(context.num_input_pipelines, context.input_pipeline_id)
        return mine.batch(context.get_per_replica_batch_size(12))

    model = make()
    result = counted(model, own, epochs=2)
    evaluated = model.evaluate(own, verbose=0)
    counts = [seen_by(model)]
    whole = model.evaluate(X, LABELS, 50, verbose=0)
    counts.append(seen_by(model))
    endless = counted(make(), lambda c: own(c).repeat(), steps_per_epoch=21)
    return {
        **result,
        "asked": sorted(set(asked)),
        "same": [evaluated, whole],
        "evaluated": counts,
        "endless": endless,
    }


def in_order() -> Any:
    model = make()
    model.fit(X, LABELS, 8, epochs=1, verbose=0)
    weights = model.get_weights()
    plain = programs.classifier(optimizers.SGD(0.05))
    plain.set_weights(weights)
    ours = model.evaluate(X, LABELS, 8, verbose=0, return_dict=True)
    return {
        "evaluated": seen_by(model),
        "predict": [model.predict(X, 4, verbose=0), plain.predict(X, 4, verbose=0)],
        "evaluate": [ours, plain.evaluate(X, LABELS, 8, verbose=0, return_dict=True)],
    }


def function_error() -> Any:
    class Failing(layers.Layer):
        def call(self, x: Any) -> Any:
            with tf.control_dependencies(
                [tf.debugging.assert_less(tf.reduce_max(x), -1e9, "not to be met")]
            ):
                return tf.identity(x)

    make(None, Failing()).fit(X, LABELS, verbose=0)


def works_after_an_error() -> Any:
    return counted(make(), X, LABELS, batch_size=5)


def callbacks() -> Any:
    epochs: list[Any] = []
    batches: list[int] = []
    seen = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.append((epoch, dict(logs)))
    )
    model = make(lambda: optimizers.SGD(0.5))
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=10.0)
    saving = tfdist.callbacks.Checkpoint(folder / f"saved-{workers}")
    board = keras.callbacks.TensorBoard(folder / "board")
    settings = {"validation_data": (X, LABELS), "epochs": 9, "batch_size": 7, "verbose": 0}
    history = model.fit(X, LABELS, callbacks=[seen, stop, saving, board], **settings).history
    each = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batches.append(batch)
    )
    model.fit(X, LABELS, 7, verbose=0, callbacks=[each])
    resumed = make(lambda: optimizers.SGD(0.5))
    resumed.fit(
        X,
        LABELS,
        epochs=2,
        verbose=0,
        callbacks=[tfdist.callbacks.Checkpoint(folder / f"saved-{workers}")],
    )
    return {
        "epochs": epochs,
        "history": history,
        "batches": batches,
        "resumed": resumed.history.history,
        "files": sorted(p.name for p in (folder / f"saved-{workers}").iterdir()),
        "board": any((folder / "board").rglob("events*")),
    }


def outside() -> Any:
    return tfdist.plug(programs.classifier(optimizers.SGD(0.1)))


def downpour() -> Any:
    """Both sides take the same steps: one worker's local steps are SGD's."""
    model = make(
        lambda: optimizers.SGD(0.05), layers.BatchNormalization(), push_every=4, fetch_every=4
    )
    history = model.fit(X, LABELS, 16, epochs=2, shuffle=False, verbose=0).history
    steps = int(model.optimizer.iterations.numpy())
    return history, model.get_weights(), {"iterations": steps, "examples": seen_by(model)}


def many_shapes() -> Any:
    """More chunks at once than there are slots, as no two batches go together."""

    def batches() -> Any:
        for number in range(24):
            yield np.ones((4, 2 + number % 2, 3), "float32"), np.zeros((4, 1), "float32")

    specs = (tf.TensorSpec((4, None, 3)), tf.TensorSpec((4, 1)))
    data = tf.data.Dataset.from_generator(batches, output_signature=specs)
    more_slots, asynchronous._MORE_SLOTS = asynchronous._MORE_SLOTS, 1 - 2 * workers
    try:
        with strategy.scope():
            pooled = [keras.Input((None, 3)), layers.GlobalAveragePooling1D(), layers.Dense(1)]
            model = keras.Sequential(pooled)
            model.compile("sgd", "mse", metrics=["accuracy"])
        model = tfdist.plug(model)
        kept: list[Any] = []

        class Keeps(tfdist.callbacks.Checkpoint):
            def keep(self, state: Any, now: bool) -> None:
                if state.step:
                    kept.append((state.step, int(model.optimizer.iterations.numpy())))
                super().keep(state, now)

        keeps = Keeps(folder / "shapes", every_secs=1e-3)
        found = counted(model, data, steps_per_epoch=24, callbacks=[keeps])
        return found | {"kept": kept}
    finally:
        asynchronous._MORE_SLOTS = more_slots


def examples() -> Any:
    return examples_counted(make(), *SOME)


def warm_start() -> Any:
    """How many chunks of steps are under way at most: at first, and after the first epoch."""
    start = WorkQueue.start
    most = [0]

    def counting(queue: WorkQueue, *given: Any, **more: Any) -> None:
        start(queue, *given, **more)
        most[-1] = max(most[-1], len(queue))

    def epoch_ends(epoch: int, logs: Any) -> None:
        most.append(0)

    ends = keras.callbacks.LambdaCallback(on_epoch_end=epoch_ends)
    model = make(warm_start=21, push_every=2)
    WorkQueue.start = counting  # type: ignore[method-assign,assignment]
    try:
        found = counted(model, X, LABELS, batch_size=5, epochs=3, callbacks=[ends])
    finally:
        WorkQueue.start = start  # type: ignore[method-assign]
    return {**found, "under_way": most}


def sharded(name: str, optimizer: Any, data: Any = (), **options: Any) -> Any:
    keras.utils.set_random_seed(programs.SEED)
    with strategy.scope():
        model = more.recommender(optimizer())
    tfdist.plug(model, shard_embeddings_from=1000, embedding_shards=2, **options)
    history = more.fit(model, *data)
    file = folder / f"{name}.keras"
    model.save(file)
    variables = [v.path for v in model.trainable_variables]
    return {"history": history, "variables": variables, "file": str(file)}


def kept(name: str, epochs: int, shards: int, by_servers: bool) -> keras.Model:
    """A model that trains on from a folder of checkpoints, its table in so many shards."""
    keras.utils.set_random_seed(programs.SEED)
    with strategy.scope():
        model = more.recommender(optimizers.Adam(0.05))
    tfdist.plug(model, shard_embeddings_from=1000, embedding_shards=shards, exact_embeddings=True)
    keep = tfdist.callbacks.Checkpoint(folder / name, sharded=by_servers)
    more.fit(model, *more.TWICE[:1], epochs, callbacks=[keep])
    return model


def kept_by_servers() -> Any:
    """The weights after three epochs, each of another model that goes on from the one before."""
    kept("kept", 1, 2, True)
    shutil.copytree(folder / "kept", folder / "one epoch")  # for the test itself
    kept("kept", 2, 5, False)
    model = kept("kept", 3, 3, True)
    files = sorted(path.name for path in (folder / "kept").glob("epoch-*"))
    return {"weights": _whole_weights(model), "files": files}


def _whole_weights(model: keras.Model) -> list[Any]:
    return [np.asarray(weight) for layer in model.layers for weight in layer.get_weights()]


def not_finite_on_one_server() -> Any:
    model = kept("nan", 1, 2, True)
    shard = model.layers[0].table.shards[1]
    value = np.asarray(shard.numpy()).copy()
    value[-1, 0] = np.nan
    shard.assign(value)
    keep = tfdist.callbacks.Checkpoint(folder / "nan", sharded=True, resume=False)
    more.fit(model, epochs=1, callbacks=[keep])
    latest = keep.latest
    names = sorted(path.name for path in keep.store.directory.iterdir())
    return [latest is not None and latest.stale, names]


def servers_that_do_not_see_it() -> Any:
    """A path that leads elsewhere in each process; first if it may be, then if it must be."""
    hidden = folder / "hidden"
    hidden.mkdir()
    path = f"/proc/self/fd/{os.open(hidden, os.O_RDONLY)}"
    server_files.SHARDED_FROM = 1
    model = make()
    model.fit(X, LABELS, verbose=0, callbacks=[tfdist.callbacks.Checkpoint(path)])
    found["written by the chief"] = sorted(p.name for p in hidden.iterdir())
    keep = tfdist.callbacks.Checkpoint(path, sharded=True, resume=False)
    return make().fit(X, LABELS, verbose=0, callbacks=[keep])


for name in more.SAME if workers == 1 else ():
    note(name, lambda name=name: programs.run(name, strategy.scope(), tfdist.plug))
if workers == 1:
    for name, one in more.OPTIMIZERS.items():
        each = f"sharded, {name}"
        note(each, functools.partial(sharded, each, one))
    for name, one in more.EXACT.items():
        each = f"exact, {name}"
        note(each, functools.partial(sharded, each, one, more.TWICE, exact_embeddings=True))
    note("downpour", downpour)
    for check in (kept_by_servers, not_finite_on_one_server, servers_that_do_not_see_it):
        note(check.__name__, check)
else:
    for check in (
        thousand_steps,
        own_pipelines,
        in_order,
        function_error,
        works_after_an_error,
        callbacks,
        outside,
        warm_start,
        many_shapes,
        examples,
    ):
        note(check.__name__, check)
    for wrong, options in more.REFUSED.items():
        note(wrong, lambda make_one=options: make_one(make).fit(X, LABELS, verbose=0))
(folder / "found.pickle").write_bytes(pickle.dumps(found))
