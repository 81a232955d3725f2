"""What it would cost and save to gather weights layer by layer (FSDP, ZeRO's stage 3).

    python -m tests.benchmarks.gathered_weights [--workers 2 3] [--width 2048]

A network of four wide layers is trained by a loop written by hand, with plain SGD, by turns in two
ways that send by the same collectives. `shares`: each worker holds all weights; gradients are
reduce-scattered, each updates its share, and the new weights are gathered (`shard_optimizer`).
`gathered`: each holds a share of the weights, and has each layer's gathered when it is computed,
in the forward pass and again in the backward pass; the next layer's comes meanwhile. Memory is a
job's of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import describe
from tests.benchmarks.own_job import run_own_job
from tests.benchmarks.sharded_slots import memory, trim

_ROWS, _LAYERS, _STEPS, _WARM = 64, 4, 8, 1
_WAYS = ("shares", "gathered")


def _train(folder: Path, width: int, rounds: int, ways: list[str]) -> None:
    """One worker."""
    import tfdist

    strategy = tfdist.strategy()
    import numpy as np
    import tensorflow as tf

    from tfdist.compat import tf_collectives
    from tfdist.strategies import registry
    from tfdist.training.slot_shards.cut import Cut
    from tfdist.training.slot_shards.share_exchange import ShareExchange

    layout = registry.layout_of(strategy)
    tf_collectives.learn_order(strategy, layout.first)
    exchange = ShareExchange(strategy, layout)
    cut = Cut.of((width, width), strategy.num_replicas_in_sync)
    start = np.random.default_rng(0).normal(size=(_LAYERS, width, width)).astype("float32")
    start *= (2 / width) ** 0.5
    x = tf.constant(np.random.default_rng(1).normal(size=(_ROWS, width)), tf.float32)
    rate = 1e-3 / strategy.num_replicas_in_sync

    def backward(outs: list[Any], weights: Any, note: Any) -> None:
        slope = outs[-1] / _ROWS / width  # of half the mean square
        for i in reversed(range(_LAYERS)):
            slope = tf.where(outs[i + 1] > 0, slope, 0.0)
            weight = weights(i, slope)
            note(i, tf.matmul(outs[i], slope, transpose_a=True))
            slope = tf.matmul(slope, weight, transpose_b=True)

    def shares_step() -> None:
        outs = [x]
        for i in range(_LAYERS):
            outs.append(tf.nn.relu(tf.matmul(outs[-1], whole[i])))
        found: dict[int, Any] = {}
        backward(outs, lambda i, _: tf.identity(whole[i]), found.__setitem__)
        for i in reversed(range(_LAYERS)):
            (total,) = exchange.sums([found[i]], [cut])
            new = exchange.own(whole[i], cut) - rate * total
            (weight,) = exchange.gathered([new], [cut])
            whole[i].assign(weight)

    def gathered_step() -> None:
        def weights(i: int, after: Any) -> Any:
            with tf.control_dependencies([after]):
                return exchange.gathered([tf.identity(parts[i])], [cut])[0]

        outs, coming = [x], weights(0, x)
        for i in range(_LAYERS):
            weight = coming
            if i + 1 < _LAYERS:
                coming = weights(i + 1, outs[-1])
            outs.append(tf.nn.relu(tf.matmul(outs[-1], weight)))
        held = {_LAYERS - 1: weight}  # the last layer's is there

        def again(i: int, slope: Any) -> Any:
            if i:
                held[i - 1] = weights(i - 1, slope)
            return held.pop(i)

        def note(i: int, gradient: Any) -> None:
            (total,) = exchange.sums([gradient], [cut])
            parts[i].assign_sub(rate * total)

        backward(outs, again, note)

    whole: list[Any] = []
    parts: list[Any] = []
    steps: dict[str, Any] = {}
    with strategy.scope():
        if "shares" in ways:
            whole += [tf.Variable(one) for one in start]
            steps["shares"] = tf.function(lambda: strategy.run(shares_step), autograph=False)
    if "gathered" in ways:  # out of the scope, in which all would get the chief's share
        own = strategy.run(lambda: tf.stack([exchange.own(tf.constant(one), cut) for one in start]))
        parts += [tf.Variable(one) for one in tf.unstack(own)]
        steps["gathered"] = tf.function(lambda: strategy.run(gathered_step), autograph=False)
    told: dict[str, Any] = {way: [] for way in ways}
    for number in range(_WARM + rounds):
        for way in ways if number % 2 else ways[::-1]:
            began = time.perf_counter()
            for _ in range(_STEPS):
                steps[way]()
            if number >= _WARM:
                told[way].append((time.perf_counter() - began) / _STEPS)
    if len(ways) > 1:
        ends = strategy.run(lambda: tf.stack(exchange.gathered(parts, [cut] * _LAYERS)))
        told["apart"] = float(np.abs(ends - np.stack([one.numpy() for one in whole])).max())
    else:
        del start
        trim()
        for _ in range(2):
            steps[ways[0]]()
        told["memory"] = memory("VmHWM")
    if tfdist.is_chief():
        (folder / "told.json").write_text(json.dumps(told))


def _job(workers: int, width: int, rounds: int, ways: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        settings = [str(width), str(rounds), ways]
        return run_own_job("gathered_weights", settings, Path(folder), "told.json", workers=workers)


def _row(workers: int, width: int, rounds: int) -> list[str]:
    both = _job(workers, width, rounds, ",".join(_WAYS))
    alone = {way: _job(workers, width, 1, way) for way in _WAYS}
    ratios = [b / a for a, b in zip(both["shares"], both["gathered"], strict=True)]
    first, middle, third = statistics.quantiles(ratios)
    size = _LAYERS * width * width * 4
    return [
        str(workers),
        f"{size / 1e6:.0f}, {size / workers / 1e6:.0f}",
        ", ".join(f"{alone[way]['memory'] / 1e6:.0f}" for way in _WAYS),
        ", ".join(f"{1e3 * statistics.median(both[way]):.0f}" for way in _WAYS),
        f"{middle:.2f} ({first:.2f} to {third:.2f})",
        f"{both['apart']:.0e}",
    ]


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--width", nargs="+", type=int, default=[2048])
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in describe().items()))
    print(
        "| workers | weights of a task, MB | memory of a task, MB | a step, ms | ratio | "
        "weights apart |"
    )
    print("|---:|---:|---:|---:|---:|---:|")
    for width in options.width:
        for workers in options.workers:
            print(f"| {' | '.join(_row(workers, width, options.rounds))} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        _train(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5].split(","))
    else:
        main()
