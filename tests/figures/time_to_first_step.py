"""From `tfdist run` to the first step, stage by stage: medians of several starts.

    python -m tests.figures.time_to_first_step --workers 2 --runs 7

Two workers train a small dense network. The target: importing TensorFlow and Keras, tracing, and at
most one second beside these. Given is the slowest worker of each stage and run: the others wait.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TARGET = 1.0
_GIVEN = ("import tensorflow", "import keras", "tracing and first step")
"""What every program would pay; all else is the time between them."""


def _probe(folder: Path, launched: float) -> None:
    """One worker: notes when each stage of its start ends."""
    began = time.time()
    stages = {"launcher: from the command to Python's first line": began - launched}
    last = began

    def stage(name: str) -> None:
        nonlocal last
        now = time.time()
        stages[name], last = now - last, now

    import tensorflow as tf

    stage("import tensorflow")
    import keras

    stage("import keras")
    import tfdist

    meeting: Any = importlib.import_module("tfdist.strategies.startup")
    stage("import tfdist's strategies")
    meet, waited = meeting.meet, 0.0

    @contextlib.contextmanager
    def timed(*args: Any, **settings: Any) -> Iterator[Any]:
        nonlocal waited
        start = time.time()
        with meet(*args, **settings) as agreement:
            waited = time.time() - start
            yield agreement

    meeting.meet = timed
    strategy = tfdist.strategy()
    stage("server and strategy")
    stages["server and strategy"] -= waited
    stages["rendezvous"] = waited
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((784,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=["accuracy"])
    stage("build and compile the model")
    tfdist.plug(model)
    stage("plug, with the import of tfdist's training")

    class Steps(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch == 0:
                stage("fit, to its first batch: data, variables, agreement")

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            stage("second step" if batch else "tracing and first step")

    model.fit(tf.zeros([256, 784]), tf.zeros([256]), 128, verbose=0, callbacks=[Steps()])
    worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    (folder / f"{worker}.json").write_text(json.dumps(stages))


def measure(workers: int) -> list[dict[str, float]]:
    """Starts one job; returns the seconds of every stage, for each worker."""
    from tfdist.launch import local_cluster, run_job

    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        launched = time.time()
        with local_cluster(workers=workers) as cluster:
            run_job(
                ["-m", "tests.figures.time_to_first_step", "--probe", folder, str(launched)],
                cluster,
                environ={**os.environ, "PYTHONPATH": path},
                log_dir=Path(folder, "logs"),
                out=io.StringIO(),
                err=io.StringIO(),
            ).check()
        return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    measure(options.workers)  # fills the file cache
    runs = [measure(options.workers) for _ in range(options.runs)]
    print(f"| stage, {options.workers} workers | median, ms | slowest run, ms |\n|---|---:|---:|")
    for name in runs[0][0]:
        times = [1e3 * max(worker[name] for worker in run) for run in runs]
        print(f"| {name} | {statistics.median(times):.0f} | {max(times):.0f} |")

    def until_first_step(worker: dict[str, float]) -> float:
        return sum(seconds for name, seconds in worker.items() if name != "second step")

    def beside(worker: dict[str, float]) -> float:
        return until_first_step(worker) - sum(worker[name] for name in _GIVEN)

    for text, of in (
        ("to the first step", until_first_step),
        ("beside the imports and tracing", beside),
    ):
        times = [max(of(worker) for worker in run) for run in runs]
        print(f"| **{text}** | {1e3 * statistics.median(times):.0f} | {1e3 * max(times):.0f} |")
    median = statistics.median(max(beside(worker) for worker in run) for run in runs)
    verdict = "met" if median <= TARGET else "missed"
    print(f"\nThe target, {1e3 * TARGET:.0f} ms beside the imports and tracing, is {verdict}.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--probe"]:
        _probe(Path(sys.argv[2]), float(sys.argv[3]))
    else:
        main()
