"""What it costs that workers compare their models, in percent of an epoch.

    python -m tests.benchmarks.drift_check                  # tiny, epochs of 400 and 2,000 steps
    python -m tests.benchmarks.drift_check --models mlp --steps 80

One job of two workers trains, by one call of `fit`; within it epochs with the check and without
take turns, in an order that changes from pair to pair, so that what else the machine does meets
both. An epoch is timed from its begin to the begin of the next: with all that its border costs.
Beside the time stands the chief's processor time, which others on the machine disturb less.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import describe
from tests.benchmarks.models import MODELS, REPLICA_BATCH, dataset, keras_layers
from tests.benchmarks.own_job import run_own_job

_WARM = 4
"""Epochs before the first pair: the length of a chunk adapts, and functions are traced."""


def _train(folder: Path, name: str, steps: int, pairs: int) -> None:
    """One worker."""
    import tfdist

    strategy = tfdist.strategy()
    import keras
    import tensorflow as tf

    plugged: Any = importlib.import_module("tfdist.training.plugged")
    model_of = MODELS[name]
    with strategy.scope():
        model = keras.Sequential([keras.Input(model_of.shape), *keras_layers(keras, name)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
    tfdist.plug(model)
    checked = [bool((epoch // 2 + epoch) % 2) for epoch in range(_WARM + 2 * pairs)]
    spent: list[tuple[float, float]] = []

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    class Switch(keras.callbacks.Callback):
        """Turns the check on or off where an epoch begins."""

        began = (0.0, 0.0)

        def note(self) -> None:
            spent.append((now()[0] - self.began[0], now()[1] - self.began[1]))

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch:
                self.note()
            drift = plugged.Plugged.of(model)._loop.family.drift
            drift.active = checked[epoch]
            drift.begin()
            self.began = now()

        def on_train_end(self, logs: Any = None) -> None:
            self.note()

    data = dataset(tf, model_of, 2 * REPLICA_BATCH)
    model.fit(data, epochs=len(checked), steps_per_epoch=steps, verbose=0, callbacks=[Switch()])
    if tfdist.is_chief():
        told = list(zip(checked, spent, strict=True))[_WARM:]
        (folder / "epochs.json").write_text(json.dumps(told))


def measure(name: str, steps: int, pairs: int) -> list[tuple[Any, Any]]:
    """Returns what pairs of epochs took, without the check and with it: seconds, and computed."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [name, str(steps), str(pairs)]
        epochs = run_own_job("drift_check", settings, Path(folder), "epochs.json", workers=2)
    found = []
    for one, other in zip(epochs[::2], epochs[1::2], strict=True):
        (_, without), (_, with_it) = sorted((one, other))
        found.append((without, with_it))
    return found


def _more(pairs: list[tuple[Any, Any]], which: int) -> str:
    """By how many percent the second of a pair is more: the median, and the quartiles."""
    each = [100 * (with_it[which] / without[which] - 1) for without, with_it in pairs]
    first, middle, third = statistics.quantiles(each)
    return f"{middle:+.2f} % ({first:+.2f} to {third:+.2f})"


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["tiny"])
    parser.add_argument("--steps", nargs="+", type=int, default=[400, 2000], help="an epoch's")
    parser.add_argument("--pairs", type=int, default=24)
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in describe().items()))
    print(f"Medians of {options.pairs} pairs of epochs; in brackets the quartiles.\n")
    print("| model | steps an epoch | without, ms | with, ms | more | more processor time |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in options.models:
        for steps in options.steps:
            pairs = measure(name, steps, options.pairs)
            without, with_it = (
                1e3 * statistics.median(pair[which][0] for pair in pairs) for which in (0, 1)
            )
            cells = f"{without:.1f} | {with_it:.1f} | {_more(pairs, 0)} | {_more(pairs, 1)}"
            print(f"| {name} | {steps:,} | {cells} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        _train(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
