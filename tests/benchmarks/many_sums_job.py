"""One worker of `tests.benchmarks.many_sums`: `many_sums_job.py SIZES TURNS`.

Sums tensors by each way in turn, each by TensorFlow's ring and as `communication=` has it. The
chief writes a JSON object from "way size" to the milliseconds of each turn as its last line.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import tensorflow as tf

import tfdist
from tfdist.compat import tf_collectives

WAYS = ("ring", "hierarchical")


def main() -> None:
    sizes, turns = [int(one) for one in sys.argv[1].split(",")], int(sys.argv[2])
    strategy = tfdist.strategy(communication="hierarchical")
    (launcher,) = tf_collectives._launchers(strategy)
    replicas = strategy.num_replicas_in_sync
    gathering = next(one for one in type(launcher).__mro__ if one.__name__ == "Gathering")
    by_ring: Any = gathering.__base__
    found: dict[str, list[float]] = {}
    for size in sizes:
        functions = {
            "ring": looping(lambda t: by_ring.all_reduce(launcher, t) / replicas),
            "hierarchical": looping(lambda t: launcher.all_reduce(t) / replicas),
        }
        own = tf.random.stateless_uniform([size // 4], [1, 2])
        steps = max(3, min(20, (4 << 20) // size))
        for way in WAYS:
            functions[way](own, tf.constant(1)).numpy()
        for turn in range(turns):
            for way in WAYS if turn % 2 else WAYS[::-1]:
                functions[way](own, tf.constant(1)).numpy()  # all begin together
                began = time.perf_counter()
                functions[way](own, tf.constant(steps)).numpy()
                milliseconds = 1e3 * (time.perf_counter() - began) / steps
                found.setdefault(f"{way} {size}", []).append(round(milliseconds, 2))
    if tfdist.is_chief():
        print(json.dumps(found), flush=True)


def looping(summed: object) -> tf.types.experimental.PolymorphicFunction:
    """What sums a tensor so many times, one after the other."""

    @tf.function
    def run(tensor: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        for _ in tf.range(steps):
            tensor = tf.ensure_shape(summed(tensor), tensor.shape)  # type: ignore[operator]
        return tensor

    return run


if __name__ == "__main__":
    main()
