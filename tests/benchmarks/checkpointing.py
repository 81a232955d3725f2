"""What checkpoints within an epoch cost, written beside the training or not.

    python -m tests.benchmarks.checkpointing                    # mlp and cnn, two workers
    python -m tests.benchmarks.checkpointing --models big       # 400 MB of weights, one process

One job trains a model by calls of `fit` that take turns: without a checkpoint, with one that is
written on the background, and with one that training waits for. All that a call does counts, the
checkpoint at its end, too, for which it waits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import describe
from tests.benchmarks.models import MODELS, REPLICA_BATCH, dataset, keras_layers
from tests.benchmarks.own_job import run_own_job

VARIANTS = ("without", "background", "waiting")
EVERY = {"big": 20}
"""Steps between two states; 100 with the others."""
STATES = {"big": 2}
"""Of one call, the last at its end; 3 with the others."""
WIDTH, DEPTH = 3600, 8


def _train(folder: Path, name: str, rounds: int) -> None:
    """One worker."""
    import tfdist

    strategy = tfdist.strategy()
    import keras
    import numpy as np
    import tensorflow as tf

    every = EVERY.get(name, 100)
    steps = every * STATES.get(name, 3)
    with strategy.scope():
        if name == "big":
            layers = [keras.Input((WIDTH,)), *(keras.layers.Dense(WIDTH) for _ in range(DEPTH))]
            model = keras.Sequential(layers)
            model.compile(keras.optimizers.SGD(1e-9), "mse")
            rows: Any = np.ones((16, WIDTH), "float32")
            data = tf.data.Dataset.from_tensors((rows, rows)).repeat()
        else:
            model_of = MODELS[name]
            model = keras.Sequential([keras.Input(model_of.shape), *keras_layers(keras, name)])
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile("adam", loss, metrics=["accuracy"])
            data = dataset(tf, model_of, 2 * REPLICA_BATCH)
    tfdist.plug(model)
    spent: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for turn in range(rounds + 1):
        for variant in VARIANTS[turn % 3 :] + VARIANTS[: turn % 3]:
            if tfdist.is_chief():
                shutil.rmtree(folder / "run", ignore_errors=True)
            keep = tfdist.callbacks.Checkpoint(
                folder / "run",
                every_steps=every,
                keep=1,
                save_on_background=variant == "background",
            )
            began = time.perf_counter()
            model.fit(
                data,
                steps_per_epoch=steps,
                verbose=0,
                callbacks=[] if variant == "without" else [keep],
            )
            if turn:  # the first traces
                spent[variant].append(time.perf_counter() - began)
    if tfdist.is_chief():
        (folder / "spent.json").write_text(json.dumps(spent))


def measure(name: str, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each call of `fit`, by variant."""
    workers = 1 if name == "big" else 2
    with tempfile.TemporaryDirectory() as folder:
        spent: dict[str, list[float]] = run_own_job(
            "checkpointing", [name, str(rounds)], Path(folder), "spent.json", workers=workers
        )
    return spent


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=[*MODELS, "big"], default=["mlp", "cnn"])
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in describe().items()))
    print(f"Medians of {options.rounds} rounds of calls that take turns.\n")
    print(
        "| model | states, each after steps | a step without, ms | more for a state, ms: ", end=""
    )
    print("on the background | waiting | percent, every 100 steps |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in options.models:
        spent = measure(name, options.rounds)
        every, states = EVERY.get(name, 100), STATES.get(name, 3)
        step = 1e3 * statistics.median(spent["without"]) / (every * states)
        beside, waiting = (
            1e3
            * statistics.median(
                one - plain for one, plain in zip(spent[variant], spent["without"], strict=True)
            )
            / states
            for variant in VARIANTS[1:]
        )
        percent = f"{beside / step:.1f} %, {waiting / step:.1f} %"
        cells = f"{states} x {every} | {step:.2f} | {beside:.0f} | {waiting:.0f} | {percent}"
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        _train(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main()
