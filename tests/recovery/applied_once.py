"""Kills the worker of a step at chosen moments of its update, and compares with a job left alone.

    tfdist run --workers 2 --ps 2 --max_restarts 9 applied_once.py FOLDER MODEL...

One worker at a time takes steps, and no gradient depends on the weights: an update that is made
twice, left out or torn shows in the last bit.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tfdist

folder, names = Path(sys.argv[1]), sys.argv[2:]
strategy = tfdist.strategy(rendezvous_timeout=60)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

STEPS, BATCH, CHUNK, STRUCK = 12, 4, 6, 9
rng = np.random.default_rng(2)
x = rng.normal(size=(STEPS * BATCH, 5)).astype("float32")
x[:, 0] = np.repeat(np.arange(STEPS), BATCH)
ids = rng.integers(0, 200, (len(x), 3)).astype("int32")


class Pause:
    """A worker's step waits here, until the worker is killed, or has been.

    Args:
        name: of the files by which both sides meet; "" never waits.
    """

    def __init__(self, name: str) -> None:
        self._waits = folder / f"{name}.waits" if name else None
        self._go = folder / f"{name}.go"

    def after(self, tensors: Sequence[tf.Tensor], there: tf.Tensor) -> tf.Tensor:
        """A tensor that comes when the wait is over.

        Args:
            tensors: what has to come before.
            there: whether this is the step to wait in.
        """
        if self._waits is None:
            return tf.constant(0)
        with tf.control_dependencies(tensors):
            return tf.cond(there, self._wait, lambda: tf.constant(0))

    def _wait(self) -> tf.Tensor:
        process = tf.data.TextLineDataset("/proc/self/stat").reduce("", lambda _, line: line)
        told = tf.io.write_file(str(self._waits), process)
        with tf.control_dependencies([told]):
            return tf.while_loop(
                lambda turns: tf.logical_not(self._may_go(turns)),
                lambda turns: (turns + 1,),
                (tf.constant(0),),
            )[0]

    def _may_go(self, turns: tf.Tensor) -> tf.Tensor:
        # What does not depend on the loop TensorFlow would look up once, when it optimizes.
        nothing = tf.strings.substr(tf.strings.as_string(turns), 0, 0)
        found = tf.io.matching_files(tf.strings.join([str(self._go), nothing]))
        return tf.size(found) > 0

    def strike(self, ready: Callable[[], bool]) -> None:
        """Waits for the worker, and for what else has to be; kills it; lets the next one pass."""
        assert self._waits is not None
        waits = self._waits
        _poll(lambda: waits.exists() and waits.read_text() != "")
        _poll(ready, 3)
        process = int(waits.read_text().split()[0])
        os.kill(process, signal.SIGSTOP)
        self._go.write_text("")
        os.kill(process, signal.SIGKILL)


def _poll(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)


def place(variable: Any) -> str:
    return str(getattr(variable, "value", variable).device)


class Striking(keras.Model):
    """A model whose step pauses: "after" its update, or before the gradients of some variables."""

    moment = ""
    pause = Pause("")
    late: frozenset[int] = frozenset()  # ids of those variables
    counted: Any = None

    def train_step(self, data: Any) -> Any:
        (numbers, rows), _ = data
        there = tf.equal(tf.cast(numbers[0, 0], tf.int32), STRUCK)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self([numbers, rows], training=True))
        variables = list(self.trainable_variables)
        gradients = tape.gradient(loss, variables)
        over = [self.pause.after([loss], there)] if self.late else []
        with tf.control_dependencies(over):
            gradients = [
                tf.identity(g) if id(v) in self.late else g
                for g, v in zip(gradients, variables, strict=True)
            ]
        self.optimizer.apply(gradients, variables)
        for metric in self.metrics:
            metric.update_state(loss)
        if self.moment == "after":
            read = [tf.reduce_sum(v.value) for v in variables]  # they come after the update
            self.pause.after([*read, tf.identity(self.counted)], there)
        return {m.name: m.result() for m in self.metrics}


def make(kind: str) -> Striking:
    keras.utils.set_random_seed(1)
    numbers, rows = keras.Input((5,)), keras.Input((3,), dtype="int32")
    with strategy.scope():
        out = numbers
        if kind == "state":
            out = keras.layers.BatchNormalization(center=False, scale=False)(out)
        out = keras.layers.Dense(3)(out) + keras.layers.Dense(3)(out)
        if kind == "table":
            table = keras.layers.Embedding(200, 8)(rows)
            out = out + keras.ops.sum(table, axis=(1, 2), keepdims=False)[:, None]
        optimizer = {
            "table": keras.optimizers.Adagrad(0.1),
            "average": keras.optimizers.AdamW(0.1, use_ema=True, weight_decay=0.01),
            "product": keras.optimizers.Nadam(0.1),
            "adam": keras.optimizers.Adam(0.1),
        }.get(kind, keras.optimizers.SGD(0.1, momentum=0.9))
        model = Striking([numbers, rows], out)
        if kind == "constraint":
            for v in model.trainable_variables[:1]:
                v.constraint = keras.constraints.UnitNorm()
        model.compile(optimizer, loss="mse", steps_per_execution=CHUNK)
    every = 2 if kind == "downpour" else 1
    return tfdist.plug(
        model, warm_start=10**6, shard_embeddings_from=1000, push_every=every, fetch_every=every
    )


def run(kind: str, moment: str) -> dict[str, Any]:
    model = make(kind)
    model.moment = moment
    thread = None
    if moment:
        model.pause = Pause(f"{kind}, {moment}")
        with strategy.scope():
            model.optimizer.build(model.trainable_variables)
        kernel, *others = (v for v in model.trainable_variables if v.name == "kernel")
        if moment == "within a server":
            model.late = frozenset(id(v) for v in others if place(v) == place(kernel))
            assert model.late
        if moment == "between servers":
            there = place(kernel)
            model.late = frozenset(id(v) for v in model.trainable_variables if place(v) != there)
        model.counted = iterations = model.optimizer.iterations.value
        before = np.asarray(kernel.numpy())

        def ready() -> bool:
            if moment == "within a server":
                return False  # nobody knows how long one would have to wait
            counted = moment != "between servers" or int(iterations.numpy()) > STRUCK
            return counted and not np.array_equal(before, kernel.numpy())

        thread = threading.Thread(target=model.pause.strike, args=(ready,), daemon=True)
        thread.start()
    began = time.monotonic()
    history = model.fit([x, ids], np.zeros(len(x)), BATCH, verbose=0, shuffle=False).history
    if thread is not None:
        thread.join()
    found = {
        "iterations": int(model.optimizer.iterations.numpy()),
        "examples": float(np.asarray(model.metrics[0].count)),
        "weights": [np.asarray(w).tobytes().hex() for w in model.get_weights()],
        "slots": [np.asarray(v).tobytes().hex() for v in model.optimizer.variables],
        "loss": history["loss"][0],
        "seconds": time.monotonic() - began,
    }
    shown = {k: v for k, v in found.items() if k not in ("weights", "slots")}
    print(f"{kind}, {moment or 'left alone'}: {shown}", flush=True)
    return found


found = {}
for name in names:
    kind, _, moments = name.partition(":")
    found[kind] = {moment: run(kind, moment) for moment in ["", *moments.split(",")]}
    for moment, one in found[kind].items():
        same = {k: one[k] == found[kind][""][k] for k in ("iterations", "weights", "slots")}
        print(f"{kind}, {moment}: {same}", flush=True)
with contextlib.suppress(OSError):
    (folder / "found.json").write_text(json.dumps(found))
