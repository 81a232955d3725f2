"""The jobs of the L-BFGS benchmark; the chief writes what it has measured to FILE.

    tfdist run --workers 2 --ps 1 -m tests.benchmarks.lbfgs_job FILE learn
    tfdist run --workers 8 --ps 1 -m tests.benchmarks.lbfgs_job FILE stragglers ROUNDS
    tfdist run --workers 2 --ps 1 -m tests.benchmarks.lbfgs_job FILE reading ROUNDS

`learn`: a network for the handwritten digits, by L-BFGS and by `fit`. `stragglers`: passes over
data whose every row takes a worker a fixed time, which it sleeps, so that many workers can be
measured on few cores; one of them may take four times as long. `reading`: files that the chief
reads, or the workers.
"""

from __future__ import annotations

import functools
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tfdist

strategy = tfdist.strategy(rendezvous_timeout=240)  # workers and ps tasks serve in here

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

from tests.benchmarks.lbfgs_models import BATCH, EPOCHS, ITERATIONS, X, Y, digits  # noqa: E402
from tests.benchmarks.sleeping import Sleeps  # noqa: E402
from tfdist.optimize import LBFGS, Portions  # noqa: E402

SLOWER = 4.0
ROWS_A_PORTION, PORTIONS, SECONDS_A_PORTION = 10, 128, 0.5
PASSES = 2  # of a turn
READ_COLUMNS, READ_ROWS, READ_PORTIONS = 1024, 1000, 48


def learn() -> dict[str, Any]:
    """Losses after each pass, and the seconds that they took."""
    found: dict[str, Any] = {}
    with strategy.scope():
        model = digits()
    LBFGS().minimize(model, X, Y, batch_size=BATCH, max_iterations=1, verbose=0)  # traces
    with strategy.scope():
        model = digits()
    seen: list[Any] = []
    began = time.monotonic()
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda _, logs: seen.append(
            [logs["loss"], logs.get("passes", 1.0), time.monotonic() - began]
        )
    )
    settings: dict[str, Any] = {"batch_size": BATCH, "callbacks": [note], "verbose": 0}
    LBFGS(tolerance=0, loss_tolerance=0).minimize(
        model, X, Y, max_iterations=ITERATIONS, **settings
    )
    seen[0][1] += 1.0  # the pass before the first step
    found["L-BFGS"] = {"seen": list(seen), "accuracy": accuracy(model)}
    for rate in (0.05, 0.2):
        with strategy.scope():
            model = digits(keras.optimizers.SGD(rate, momentum=0.9))
        tfdist.plug(model)
        model.fit(X, Y, batch_size=BATCH, epochs=1, verbose=0)  # traces
        with strategy.scope():
            model = digits(keras.optimizers.SGD(rate, momentum=0.9))
        tfdist.plug(model)
        seen.clear()
        began = time.monotonic()
        model.fit(X, Y, epochs=EPOCHS, **settings)
        found[f"SGD {rate}"] = {"seen": list(seen), "accuracy": accuracy(model)}
    return found


def accuracy(model: keras.Model) -> list[float]:
    loss, right = model.evaluate(X, Y, verbose=0)
    return [float(loss), float(right)]


def stragglers(rounds: int) -> dict[str, Any]:
    """Seconds of a pass, turn by turn: nobody slow, worker 0 slow, and the same without copies."""
    rows = ROWS_A_PORTION * PORTIONS
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(rows, 8)).astype("float32"), rng.normal(size=(rows, 1))
    with strategy.scope():
        keras.utils.set_random_seed(1)
        sleeps = Sleeps(SECONDS_A_PORTION / ROWS_A_PORTION)
        model = keras.Sequential([keras.Input((8,)), sleeps, layers.Dense(1)])
        model.compile(optimizer=None, loss="mse")
    start = model.get_weights()
    turns: dict[str, list[float]] = {"equal": [], "slow": [], "slow, no copies": []}
    copies: dict[str, list[int]] = {name: [] for name in turns}
    losses = set()
    for number in range(rounds):
        for name in turns if number % 2 else reversed(turns):
            model.set_weights(start)
            sleeps.slower.assign(1.0 if name == "equal" else SLOWER)
            times = [time.monotonic()]
            note = keras.callbacks.LambdaCallback(
                on_epoch_end=lambda *_, times=times: times.append(time.monotonic())
            )
            found = LBFGS(backups="no" not in name, tolerance=0, loss_tolerance=0).minimize(
                model,
                x,
                y,
                batch_size=ROWS_A_PORTION,
                max_iterations=PASSES,
                callbacks=[note],
                verbose=0,
            )
            passes = found.history.history["passes"]
            # The first iteration has the first pass, which traces, before it.
            each = [s / p for s, p in zip(np.diff(times)[1:], passes[1:], strict=True)]
            turns[name].append(statistics.median(each))
            copies[name].append(found.copies)
            losses.add(found.loss)
            print(f"{name}: {turns[name][-1]:.3f} s a pass, {found.copies} copies", flush=True)
    return {"turns": turns, "copies": copies, "losses": sorted(losses)}


def _note_time(times: list[float], *_: Any) -> None:
    times.append(time.monotonic())


def reading(rounds: int) -> dict[str, Any]:
    """Seconds of a pass, turn by turn: the chief reads a file's batches, or the workers do."""
    columns, rows = READ_COLUMNS, READ_ROWS
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(1)
    files = []
    for number in range(READ_PORTIONS):
        x = rng.normal(size=(rows, columns)).astype("float32")
        files.append(str(folder / f"{number}"))
        x.tofile(files[-1])

    def read(number: Any) -> Any:
        found = tf.io.decode_raw(tf.io.read_file(tf.gather(files, number)), tf.float32)
        x = tf.reshape(found, [rows, columns])
        return x, tf.reduce_sum(x[:, :10], 1, keepdims=True)

    ways: dict[str, Any] = {
        "chief": tf.data.Dataset.range(READ_PORTIONS).map(read).prefetch(4),
        "workers": Portions(read, READ_PORTIONS),
    }
    turns: dict[str, list[float]] = {name: [] for name in ways}
    with strategy.scope():
        model = keras.Sequential([keras.Input((columns,)), layers.Dense(16), layers.Dense(1)])
        model.compile(optimizer=None, loss="mse")
    start = model.get_weights()
    losses = set()
    for number in range(-1, rounds):  # the first one traces
        for name in ways if number % 2 else reversed(ways):
            model.set_weights(start)
            times: list[float] = []
            noting = functools.partial(_note_time, times)
            note = keras.callbacks.LambdaCallback(on_epoch_end=noting)
            found = LBFGS(tolerance=0, loss_tolerance=0).minimize(
                model, ways[name], max_iterations=PASSES + 1, callbacks=[note], verbose=0
            )
            passes = sum(found.history.history["passes"][1:])
            losses.add(found.loss)
            if number >= 0:
                turns[name].append((times[-1] - times[0]) / passes)
    shutil.rmtree(folder)
    return {"turns": turns, "losses": sorted(losses)}


if __name__ == "__main__":
    file, what, *more = sys.argv[1:]
    parts: dict[str, Callable[..., Any]] = {
        "learn": learn,
        "stragglers": stragglers,
        "reading": reading,
    }
    measured = parts[what](*map(int, more))
    Path(file).write_text(json.dumps(measured))
