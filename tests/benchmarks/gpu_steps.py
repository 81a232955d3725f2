"""Step times on one GPU: tfdist's `fit`, plain Keras', and loops by hand that differ in one thing.

    python -m tests.benchmarks.gpu_steps mlp cnn transformer     # some minutes; prints a table

All variants of a model are alive in one process and take turns. A loop by hand holds the data on
the GPU (`loop`), or takes each batch from the host (`loop_host`), with loss and accuracy counted as
`fit` counts them; `loop_bare` counts nothing: a bound, and no rival. `_jit` is with XLA. `tfdist`
puts arrays on the GPU, `tfdist_sent` sends its batches one step ahead, and `_dataset` is given a
shuffled `tf.data.Dataset`. STEPS, ROUNDS and RESULTS (a file that gets a line of JSON for each
variant) are variables of the environment.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfdist

STEPS = int(os.environ.get("STEPS", "200"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
BATCH = 128
SHAPES = {"mlp": (784,), "cnn": (28, 28, 1), "transformer": (64,)}

Turn = Callable[[], list[float]]
"""Trains for some epochs; returns the seconds of each."""


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Random examples, or tokens for the transformer, in ten classes."""
    random = np.random.default_rng(0)
    rows = STEPS * BATCH
    y = random.integers(0, 10, rows)
    if name == "transformer":
        return random.integers(0, 1000, (rows, *SHAPES[name])), y
    return random.normal(size=(rows, *SHAPES[name])).astype(np.float32), y


def network(name: str) -> keras.Model:
    layers = keras.layers
    inputs = keras.Input(SHAPES[name], dtype="int64" if name == "transformer" else "float32")
    if name == "mlp":
        x = layers.Dense(512, activation="relu")(inputs)
        x = layers.Dense(512, activation="relu")(x)
    elif name == "cnn":
        x = layers.MaxPooling2D()(layers.Conv2D(32, 3, activation="relu")(inputs))
        x = layers.MaxPooling2D()(layers.Conv2D(64, 3, activation="relu")(x))
        x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    else:  # one block of a transformer
        x = layers.Embedding(1000, 128)(inputs)
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 32)(x, x))
        hidden = layers.Dense(512, activation="relu")(x)
        x = layers.LayerNormalization()(x + layers.Dense(128)(hidden))
        x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def parts() -> tuple[Any, Any]:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return keras.optimizers.SGD(0.01, momentum=0.9), loss


def by_hand(name: str, jit: bool, *, there: bool, counted: bool) -> Turn:
    """A loop by hand, an epoch of it in one function."""
    x, y = data(name)
    model = network(name)
    optimizer, losses = parts()
    optimizer.build(model.trainable_variables)
    mean, accuracy = keras.metrics.Mean(), keras.metrics.SparseCategoricalAccuracy()
    mean(0.0)
    accuracy(y[:2], np.zeros((2, 10), np.float32))

    @tf.function(jit_compile=jit)
    def step(rows: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = model(rows, training=True)
            loss = losses(labels, outputs)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        if counted:
            mean.update_state(loss)
            accuracy.update_state(labels, outputs)
        return loss

    x_there, y_there = tf.constant(x), tf.constant(y)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH).cache().repeat()
    iterator = iter(batches.prefetch(2))

    @tf.function
    def epoch(order: Any) -> Any:
        total = 0.0
        for rows in order:
            if there:
                total += step(tf.gather(x_there, rows), tf.gather(y_there, rows))
            else:
                total += step(*next(iterator))
        return total

    def turn() -> list[float]:
        order = tf.constant(np.random.permutation(len(x)).reshape(STEPS, BATCH))
        began = time.perf_counter()
        float(epoch(order))
        return [time.perf_counter() - began]

    return turn


class Clock(keras.callbacks.Callback):
    """When each epoch has ended, its loss read."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        float(logs["loss"])
        self.ends.append(time.perf_counter())


def fit(name: str, jit: bool, *, plugged: bool, dataset: bool = False, **options: Any) -> Turn:
    """`fit` for three epochs, of which the first, which prepares, is not counted."""
    x, y = data(name)
    optimizer, loss = parts()
    strategy = tfdist.strategy("one_device") if plugged else tf.distribute.get_strategy()
    with strategy.scope():
        model = network(name)
        model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit)
    if plugged:
        tfdist.plug(model, **options)
    given: dict[str, Any] = {"x": x, "y": y, "batch_size": BATCH}
    if dataset:
        slices = tf.data.Dataset.from_tensor_slices((x, y))
        given = {"x": slices.shuffle(1000).batch(BATCH, drop_remainder=True).prefetch(2)}

    def turn() -> list[float]:
        clock = Clock()
        model.fit(**given, epochs=3, verbose=0, callbacks=[clock])
        return np.diff(clock.ends).tolist()

    return turn


def variants(name: str) -> dict[str, Callable[[], Turn]]:
    """What makes each variant."""
    found: dict[str, Callable[[], Turn]] = {}
    for jit, end in ((False, ""), (True, "_jit")):
        fitted = functools.partial(fit, name, jit)
        looped = functools.partial(by_hand, name, jit)
        found |= {
            f"keras{end}": functools.partial(fitted, plugged=False),
            f"tfdist{end}": functools.partial(fitted, plugged=True),
            f"tfdist_sent{end}": functools.partial(fitted, plugged=True, data_on_device=False),
            f"keras_dataset{end}": functools.partial(fitted, plugged=False, dataset=True),
            f"tfdist_dataset{end}": functools.partial(fitted, plugged=True, dataset=True),
            f"loop_bare{end}": functools.partial(looped, there=True, counted=False),
            f"loop{end}": functools.partial(looped, there=True, counted=True),
            f"loop_host{end}": functools.partial(looped, there=False, counted=True),
        }
    return found


def measure(name: str) -> None:
    turns = {variant: make() for variant, make in variants(name).items()}
    for turn in turns.values():
        turn()  # traces, and compiles
    times: dict[str, list[float]] = {variant: [] for variant in turns}
    for _ in range(ROUNDS):
        for variant, turn in turns.items():
            times[variant] += [seconds / STEPS * 1e3 for seconds in turn()]
    for variant, ms in times.items():
        print(f"| {name} | {variant} | {statistics.median(ms):.3f} | {min(ms):.3f} |", flush=True)
        if "RESULTS" in os.environ:
            with Path(os.environ["RESULTS"]).open("a") as results:
                results.write(json.dumps({"model": name, "variant": variant, "ms": ms}) + "\n")


if __name__ == "__main__":
    print("| model | variant | median, ms a step | least |\n|---|---|---:|---:|")
    for model_name in sys.argv[1:] or list(SHAPES):
        measure(model_name)
