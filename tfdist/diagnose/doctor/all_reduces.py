"""Measures all-reduces between the tasks of a job: each task runs `python -m` this module."""

from __future__ import annotations

import json
import sys
import time

import tensorflow as tf

import tfdist
from tfdist import process
from tfdist.diagnose.doctor.exchange_job import MARK

_LARGE = 4 << 20  # elements of 4 bytes
_LARGE_SHARE = 0.75
_TRIAL_SMALL, _TRIAL_LARGE = 20, 3
_MOST_AT_ONCE = 1000


def main(seconds: float) -> None:
    """Measures for so many seconds, and prints what came of it on the chief."""
    strategy = tfdist.strategy("multi_worker_mirrored")

    @tf.function(reduce_retracing=True)
    def exchange(value: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
        for _ in tf.range(times):
            value = strategy.reduce("MEAN", strategy.run(tf.identity, args=(value,)), axis=None)
        return value

    def timed(elements: int, times: int) -> float:
        """Seconds of one all-reduce; the same number on all tasks, which must do alike."""
        value = tf.ones([elements])
        begin = time.perf_counter()
        exchange(value, tf.constant(times)).numpy()
        own = (time.perf_counter() - begin) / times
        return float(exchange(tf.constant([own]), tf.constant(1)).numpy()[0])

    def measured(elements: int, trial: int, budget: float) -> tuple[float, int]:
        timed(elements, trial)  # the first one also traces
        each, done, spent, times = timed(elements, trial), 0, 0.0, trial
        while spent < budget:
            times = max(1, min(_MOST_AT_ONCE, int((budget - spent) / each)))
            each = timed(elements, times)
            done, spent = done + times, spent + times * each
        return spent / max(done, 1) or each, done

    small, small_count = measured(1, _TRIAL_SMALL, seconds * (1 - _LARGE_SHARE))
    large, large_count = measured(_LARGE, _TRIAL_LARGE, seconds * _LARGE_SHARE)
    if process.is_chief():
        told = {
            "latency": small,
            "small": small_count,
            "bytes": 4 * _LARGE,
            "seconds": large,
            "large": large_count,
        }
        sys.stdout.write(f"{MARK} {json.dumps(told)}\n")


if __name__ == "__main__":
    main(float(sys.argv[1]))
