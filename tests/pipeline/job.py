"""The checks of a pipeline over real workers, on their chief.

tfdist run --workers 2 --chief job.py FOLDER
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tfdist

task = json.loads(os.environ["TF_CONFIG"])["task"]
if task["type"] == "worker" and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))  # as Slurm and Kubernetes give one to a task
    os.sched_setaffinity(0, {cores[task["index"] % len(cores)]})

folder = Path(sys.argv[1])
strategy = tfdist.strategy("pipeline", microbatches=3, rendezvous_timeout=60)  # workers serve here

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tests.multi_worker import programs  # noqa: E402
from tests.pipeline import stacks  # noqa: E402
from tests.training.examples_counted import SOME, examples_counted  # noqa: E402
from tfdist.compat import tf_graphs  # noqa: E402
from tfdist.pipeline import PipelinePlan  # noqa: E402
from tfdist.strategies.pipeline_strategy import PipelineStrategy  # noqa: E402

found: dict[str, Any] = {}


def piped(make: Callable[[], keras.Model], **plan: Any) -> keras.Model:
    """A model on this job's pipeline, or on another one over the same workers."""
    chosen = strategy
    if plan:
        settings = {"microbatches": 3, **plan}
        chosen = PipelineStrategy(
            PipelinePlan(strategy.plan.tasks, **settings), strategy.devices, strategy.home
        )
    keras.utils.set_random_seed(programs.SEED)
    with chosen.scope():
        model = make()
    return tfdist.plug(model)


def note(name: str, check: Callable[[], Any]) -> None:
    """Notes what a check returns."""
    began = time.monotonic()
    found[name] = check()
    print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


def same(name: str) -> Any:
    make, plan = stacks.CASES[name]
    model = piped(make, **plan)
    result = stacks.use(model)
    devices = {variable.path: variable.value.device for variable in model.trainable_weights}
    slots = {variable.path: variable.value.device for variable in model.optimizer.variables}
    return {
        "result": result,
        "weights": model.get_weights(),
        "devices": devices,
        "slots": slots,
    }


def resumed() -> Any:
    """Trains two epochs in two `fit`s with a checkpoint between them."""
    settings = {"callbacks": [tfdist.callbacks.Checkpoint(folder / "run")]}
    stacks.fit(piped(stacks.stack), epochs=1, **settings)
    model = piped(stacks.stack)
    settings = {"callbacks": [tfdist.callbacks.Checkpoint(folder / "run")]}
    history = stacks.fit(model, epochs=2, **settings)
    model.save(folder / "saved.keras")
    return {"history": history, "weights": model.get_weights()}


def measured() -> Any:
    model = piped(stacks.stack)
    timings = tfdist.pipeline.measure(model, (programs.X[:32], programs.LABELS[:32]))
    return {"timings": timings, "drawn": tfdist.pipeline.draw(timings)}


def handed_on() -> Any:
    """When eight pieces of one chain of products were ready on a worker, and came to the other."""
    near, far = strategy.devices

    @tf.function(autograph=False)
    def run(y: tf.Tensor, kernel: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        stamps, sums = [], []
        for _ in range(8):
            with tf.device(near):
                for _ in range(4):
                    y = tf.nn.relu(tf.matmul(y, kernel))
                piece = y[:1]
                with tf.control_dependencies([piece]):
                    stamps.append(tf.timestamp())
            with tf.device(far):
                came = tf.identity(piece)
                with tf.control_dependencies([came]):
                    stamps.append(tf.timestamp())
                sums.append(tf.reduce_sum(came))  # or nobody would wait for it
        return stamps, tf.add_n(sums)

    y, kernel = tf.ones((256, 1024)), tf.random.normal((1024, 1024), stddev=0.04)
    with tf_graphs.unordered_stamps():
        stamps = [run(y, kernel)[0] for _ in range(2)][1]
    return np.reshape([float(stamp) for stamp in stamps], (8, 2))


for case in stacks.USUAL:
    note(case, functools.partial(same, case))
note("resumed", resumed)
note("examples", lambda: examples_counted(piped(stacks.stack), *SOME[:-1]))
note("measured", measured)
note("handed on", handed_on)
with contextlib.suppress(OSError):
    (folder / "found.pickle").write_bytes(pickle.dumps(found))
