"""What a checkpoint of a table on two parameter servers takes of the chief's memory and time.

    python -m tests.benchmarks.sharded_checkpoints --megabytes 800 200

For each way of writing (by the chief, by the servers) and each size, one job trains two epochs,
with a checkpoint after each, and a second job resumes and trains a third. The table has a slot of
its size (Adagrad); sizes are of both. Memory is the most that the chief's process has had resident.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import describe
from tests.benchmarks.own_job import run_own_job

COLUMNS = 64
BATCH, STEPS = 64, 40


def _peak() -> int:
    """The most MiB that this process has had resident."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) // 1024


def _timed(call: Callable[..., None], seconds: list[float], *args: Any) -> None:
    began = time.perf_counter()
    call(*args)
    seconds.append(time.perf_counter() - began)


def _train(folder: Path, megabytes: int, sharded: bool, epochs: int) -> None:
    """One task."""
    import tfdist

    strategy = tfdist.strategy()
    import keras
    import numpy as np

    rows = megabytes * 2**20 // (2 * 4 * COLUMNS)
    with strategy.scope():
        layers = [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(rows, COLUMNS),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.Adagrad(0.1), "mse")
    tfdist.plug(model)
    keep = tfdist.callbacks.Checkpoint(folder / "run", sharded=sharded, keep=1)
    told: dict[str, Any] = {"held up": [], "written": []}
    keep.keep = functools.partial(_timed, keep.keep, told["held up"])  # type: ignore[method-assign]
    keep._write = functools.partial(_timed, keep._write, told["written"])  # type: ignore[method-assign]
    rng = np.random.default_rng(0)
    x = rng.integers(0, rows, (BATCH * STEPS, 4)).astype("int32")
    y = rng.normal(size=(BATCH * STEPS, 1)).astype("float32")
    told["before"] = _peak()
    began = time.perf_counter()
    model.fit(x, y, BATCH, epochs=epochs, verbose=0, callbacks=[keep])
    told |= {"after": _peak(), "fit": time.perf_counter() - began}
    (folder / "told.json").write_text(json.dumps(told))


def measure(folder: Path, megabytes: int, sharded: bool, epochs: int) -> dict[str, Any]:
    """Returns what the chief of a job has told."""
    given = [str(megabytes), str(int(sharded)), str(epochs)]
    told: dict[str, Any] = run_own_job(
        "sharded_checkpoints", given, folder, "told.json", workers=1, ps=2
    )
    return told


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[800, 200])
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in describe().items()) + "\n")
    print(
        "| table and slot, MiB | written by | chief's peak before `fit`, after, after one that "
        "resumes, MiB | a state holds training up, s | it is written in, s |"
    )
    print("|---:|---|---:|---:|---:|")
    for megabytes in options.megabytes:
        for sharded in (False, True):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                first = measure(folder, megabytes, sharded, 2)
                again = measure(folder, megabytes, sharded, 3)
            who = "the servers" if sharded else "the chief"
            peaks = f"{first['before']}, {first['after']}, {again['after']}"
            held, written = first["held up"][0], first["written"][0]
            row = f"| {megabytes} | {who} | {peaks} | {held:.2f} | {written:.1f} |"
            print(row, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        _train(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1", int(sys.argv[5]))
    else:
        main()
