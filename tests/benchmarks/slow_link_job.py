"""One worker on a slow link: `python -m tests.benchmarks.slow_link_job WAY STEPS TURNS`.

Trains with gradients of 57 MB ("one sum", "buckets", or "alone": a worker that is told of no
other), or sums as many bytes without training ("exchange", "exchange in buckets"). The chief writes
a JSON list of the milliseconds a step of each turn as its last line.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import keras
import tensorflow as tf

import tfdist
from tests.benchmarks.models import MODELS, REPLICA_BATCH, compiled, dataset
from tfdist.training.peers import packing

MODEL = MODELS["wide"]


def main() -> None:
    way, steps, turns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if way == "alone":
        del os.environ["TF_CONFIG"]
    strategy = tfdist.strategy()
    with strategy.scope():
        model = compiled(keras, MODEL, metrics=None)
    tfdist.plug(model)
    data = dataset(tf, MODEL, REPLICA_BATCH * strategy.num_replicas_in_sync)
    # As before there were buckets: all of a dtype in one sum.
    whole = mock.patch.object(packing, "in_buckets", lambda sizes: [[*range(len(sizes))]])
    if way in ("one sum", "exchange"):
        whole.start()
    found: list[float] = []

    class Turn(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            found.append(1e3 * (time.perf_counter() - self.began) / steps)

    fit = functools.partial(model.fit, data, verbose=0)
    fit(steps_per_epoch=2)  # also opens the lanes, and traces
    if way.startswith("exchange"):
        run = _sums(strategy, model)
        run(2)
        for _ in range(turns):
            began = time.perf_counter()
            run(steps)
            found.append(1e3 * (time.perf_counter() - began) / steps)
    else:
        fit(epochs=turns, steps_per_epoch=steps, callbacks=[Turn()])
    if tfdist.is_chief():
        print(json.dumps([round(one, 1) for one in found]), flush=True)


def _sums(strategy: tf.distribute.Strategy, model: keras.Model) -> Callable[[int], None]:
    """What sums as many numbers as the model has, so many times."""

    def on_replica() -> None:
        sums = packing.sum_by_dtype([v.value.read_value() for v in model.trainable_variables])
        for one in sums:  # or nobody would ask for it
            tf.debugging.assert_all_finite(tf.reshape(one, [-1])[0], "a sum")

    @tf.function
    def run(count: tf.Tensor) -> None:
        for _ in tf.range(count):
            strategy.run(on_replica)

    return lambda count: run(tf.constant(count))


if __name__ == "__main__":
    main()
