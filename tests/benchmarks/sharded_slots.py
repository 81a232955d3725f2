"""What sharing out an optimizer's slots (`shard_optimizer=True`) costs and saves.

    python -m tests.benchmarks.sharded_slots                # 2 and 3 workers, Adam
    python -m tests.benchmarks.sharded_slots --workers 2 --optimizer sgd --rounds 20

Two models of 57 MB (Dense 2048, four times) train in one job of workers with a thread each, one
with whole slots and one with shares, from the same weights on the same batches: epochs of some
steps take turns, in an order that changes from round to round. An epoch is timed from its first
step to its last. Bytes are what goes over the loopback interface meanwhile, so the job must be
alone there: run it in a network namespace (`unshare --net`, then `ip link set lo up`) where others
use the machine. Memory is a task's of a job of its own, after what has been freed has gone back to
the system: at rest after an epoch, and at most in one more epoch.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import describe
from tests.benchmarks.own_job import run_own_job

_HIDDEN = 2048
_REPLICA_BATCH = 64
_WARM = 2
_OPTIMIZERS = ("adam", "sgd")


def _loopback() -> int:
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[0])
    return 0


def memory(which: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(f"{which}:")[2].split()[0]) * 1024


def trim() -> None:
    """Gives back to the system what is free, and forgets how much there was at most."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _train(folder: Path, optimizer: str, steps: int, rounds: int, variants: list[bool]) -> None:
    """One worker."""
    import tfdist

    strategy = tfdist.strategy()
    import keras
    import numpy as np

    random = np.random.default_rng(0)
    batch = _REPLICA_BATCH * strategy.num_replicas_in_sync
    x = random.normal(size=(batch * steps, 784)).astype(np.float32)
    y = random.integers(0, 10, len(x))

    def made(shared: bool) -> keras.Model:
        keras.utils.set_random_seed(1)
        with strategy.scope():
            hidden = [keras.layers.Dense(_HIDDEN, "relu") for _ in range(4)]
            model = keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10)])
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            chosen = keras.optimizers.Adam(1e-4)
            if optimizer == "sgd":
                chosen = keras.optimizers.SGD(0.01, momentum=0.9)
            model.compile(chosen, loss)
        return tfdist.plug(model, shard_optimizer=shared)

    class Spent(keras.callbacks.Callback):
        """The seconds and the bytes of an epoch's steps."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began, self.bytes = time.perf_counter(), _loopback()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.found = time.perf_counter() - self.began, _loopback() - self.bytes

    models = {shared: made(shared) for shared in variants}
    spent = Spent()
    told: dict[str, Any] = {str(shared): {"seconds": [], "bytes": []} for shared in variants}
    for number in range(_WARM + rounds):
        for shared in variants if number % 2 else variants[::-1]:
            models[shared].fit(x, y, batch_size=batch, shuffle=False, verbose=0, callbacks=[spent])
            if number >= _WARM:
                told[str(shared)]["seconds"].append(spent.found[0] / steps)
                told[str(shared)]["bytes"].append(spent.found[1] / steps)
    for shared, model in models.items():
        own = [strategy.experimental_local_results(v.value)[0] for v in model.optimizer.variables]
        told[str(shared)]["slots"] = sum(v.numpy().nbytes for v in own if v.shape.rank)
        told[str(shared)]["weights"] = sum(w.nbytes for w in model.get_weights())
    if len(models) == 1:
        (model,) = models.values()
        trim()
        told["resident"] = memory("VmRSS")
        model.fit(x, y, batch_size=batch, shuffle=False, verbose=0)
        told["peak"] = memory("VmHWM")
    if len(models) > 1:
        pairs = zip(*(m.get_weights() for m in models.values()), strict=True)
        told["apart"] = max(float(np.abs(a - b).max()) for a, b in pairs)
        told["largest"] = max(float(np.abs(w).max()) for w in models[True].get_weights())
    if tfdist.is_chief():
        (folder / "told.json").write_text(json.dumps(told))


def _job(workers: int, optimizer: str, steps: int, rounds: int, variants: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        settings = [optimizer, str(steps), str(rounds), variants]
        return run_own_job("sharded_slots", settings, Path(folder), "told.json", workers=workers)


def _row(workers: int, optimizer: str, steps: int, rounds: int) -> list[str]:
    both = _job(workers, optimizer, steps, rounds, "both")
    alone = {one: _job(workers, optimizer, steps, 2, one) for one in ("whole", "shared")}
    whole, shared = both["False"], both["True"]
    ratios = [b / a for a, b in zip(whole["seconds"], shared["seconds"], strict=True)]
    first, middle, third = statistics.quantiles(ratios)
    sent = [statistics.median(one["bytes"]) / workers for one in (whole, shared)]
    return [
        optimizer,
        str(workers),
        (
            f"{whole['slots'] / 1e6:.1f}, {shared['slots'] / 1e6:.1f} "
            f"({shared['slots'] / whole['slots']:.4f})"
        ),
        f"{alone['whole']['resident'] / 1e6:.0f}, {alone['shared']['resident'] / 1e6:.0f}",
        f"{alone['whole']['peak'] / 1e6:.0f}, {alone['shared']['peak'] / 1e6:.0f}",
        f"{sent[0] / 1e6:.2f}, {sent[1] / 1e6:.2f} ({sent[1] / sent[0]:.4f})",
        (
            f"{1e3 * statistics.median(whole['seconds']):.0f}, "
            f"{1e3 * statistics.median(shared['seconds']):.0f}"
        ),
        f"{middle:.3f} ({first:.3f} to {third:.3f})",
        f"{both['apart']:.1e} of {both['largest']:.2f}",
    ]


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--optimizer", nargs="+", choices=_OPTIMIZERS, default=["adam"])
    parser.add_argument("--steps", type=int, default=8, help="an epoch's")
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in describe().items()))
    print(
        f"\nEach pair: whole slots, shares; medians of {options.rounds} rounds of {options.steps} "
        "steps, batch 64 a worker; of ratios the quartiles.\n"
    )
    print(
        "| optimizer | workers | slots of a task, MB | at rest, MB | at most, MB | sent by a task "
        "in a step, MB | a step, ms | ratio | weights apart |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for optimizer in options.optimizer:
        for workers in options.workers:
            row = _row(workers, optimizer, options.steps, options.rounds)
            print(f"| {' | '.join(row)} |", flush=True)


_VARIANTS = {"both": [False, True], "whole": [False], "shared": [True]}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        _train(
            Path(sys.argv[2]),
            sys.argv[3],
            int(sys.argv[4]),
            int(sys.argv[5]),
            _VARIANTS[sys.argv[6]],
        )
    else:
        main()
