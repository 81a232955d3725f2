"""One side of the parameter-server benchmarks: a chief that trains on demand, and its servers.

    python -m tests.benchmarks.servers chief '{"way": "tfdist", ...}'      (started by `embedding`)

The chief reads a line "go STEPS" from its standard input, trains so many steps with `fit`, and
answers with the seconds that they took, the bytes that crossed the loopback interface meanwhile and
the last logs, as JSON; or "evaluate", and answers with the test metrics.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tfdist.machine.ports import Reservation

__all__ = ["Case", "Side"]

ROOT = Path(__file__).parents[2]
BATCH = 512
IDS = 26
WIDTH = 16
_BATCHES = 64  # of random ids, read again and again


@dataclasses.dataclass(frozen=True)
class Case:
    """What is trained, and how.

    Attributes:
        way: "tfdist" (the chief reads the data), "tfdist own" (each worker does), "tf_keras".
        rows: of the table.
        steps_per_execution: of `compile`, where the way is tf_keras.
        model: "embedding" or "mlp".
        options: of `tfdist.plug`.
    """

    way: str = "tfdist"
    rows: int = 1_000_000
    steps_per_execution: int = 1
    model: str = "embedding"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


class Side:
    """A cluster of processes that trains one case, a turn at a time.

    Args:
        case: what to train.
        workers: how many.
        servers: how many ps tasks.
    """

    def __init__(self, case: Case, workers: int = 2, servers: int = 2) -> None:
        self.case = case
        self._held = Reservation(workers + servers + 1)
        ports = [f"127.0.0.1:{port}" for port in self._held.ports]
        spec = {
            "worker": ports[:workers],
            "ps": ports[workers:-1],
            "chief": ports[-1:],
        }
        variables = {
            **os.environ,
            "GRPC_FAIL_FAST": "use_caller",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        command = [sys.executable, "-m", "tests.benchmarks.servers"]
        self._processes: list[subprocess.Popen[Any]] = [
            subprocess.Popen(
                [*command, "server", json.dumps(spec), job, str(index)],
                env=variables,
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for job in ("worker", "ps")
            for index in range(len(spec[job]))
        ]
        self._chief: subprocess.Popen[str] = subprocess.Popen(
            [*command, "chief", json.dumps(spec), json.dumps(dataclasses.asdict(case))],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if "SHOW" in os.environ else subprocess.DEVNULL,
            text=True,
        )

    def turn(self, steps: int) -> dict[str, Any]:
        """Trains so many steps; returns seconds, bytes and logs."""
        return self._ask(f"go {steps}")

    def evaluate(self) -> dict[str, Any]:
        """Tests the mlp; returns its metrics."""
        return self._ask("evaluate")

    def _ask(self, what: str) -> dict[str, Any]:
        assert self._chief.stdin is not None
        assert self._chief.stdout is not None
        self._chief.stdin.write(f"{what}\n")
        self._chief.stdin.flush()
        for line in self._chief.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"the chief of {self.case} ended; SHOW=1 shows what it said")

    def close(self) -> None:
        """Ends all processes."""
        everybody: list[subprocess.Popen[Any]] = [self._chief, *self._processes]
        for process in everybody:
            process.kill()
            process.wait()
        self._held.close()

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _loopback_bytes() -> int:
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[0])
    return 0


def _data(case: Case) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    if case.model == "embedding":
        ids = rng.integers(0, case.rows, (_BATCHES * BATCH, IDS)).astype("int32")
        return ids, rng.integers(0, 2, (_BATCHES * BATCH, 1)).astype("float32")
    return _images()[0]


def _images() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The handwritten digits for training and for testing, drawn on 28 by 28 pixels."""
    from tfdist.examples import data

    def larger(images: Any) -> Any:
        pixels = np.kron(images[..., 0], np.ones((1, 3, 3), "float32"))
        return np.pad(pixels, ((0, 0), (2, 2), (2, 2))).reshape(-1, 784)

    (train, labels), (test, test_labels) = data.digits()
    return (larger(train), labels), (larger(test), test_labels)


def _model(keras: Any, case: Case) -> Any:
    layers = keras.layers
    if case.model == "embedding":
        model = keras.Sequential(
            [
                layers.Input((IDS,), dtype="int32"),
                layers.Embedding(case.rows, WIDTH),
                layers.Flatten(),
                layers.Dense(64, activation="relu"),
                layers.Dense(1),
            ]
        )
        loss: Any = keras.losses.BinaryCrossentropy(from_logits=True)
        metrics = [keras.metrics.BinaryAccuracy(threshold=0.0)]
    else:
        model = keras.Sequential(
            [
                layers.Input((784,)),
                layers.Dense(512, activation="relu"),
                layers.Dense(512, activation="relu"),
                layers.Dense(10),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metrics = ["accuracy"]
    model.compile(
        optimizer=keras.optimizers.Adagrad(0.05),
        loss=loss,
        metrics=metrics,
        steps_per_execution=case.steps_per_execution,
    )
    return model


def _serve(spec: dict[str, list[str]], job: str, index: int) -> None:
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1)
    server = tf.distribute.Server(
        tf.train.ClusterSpec(spec), job_name=job, task_index=index, config=config, protocol="grpc"
    )
    assert server is not None
    sys.stdin.read()  # until the measuring process ends


def _chief(spec: dict[str, list[str]], case: Case) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(spec), task_type="chief", task_id=0, rpc_layer="grpc"
    )
    legacy = case.way == "tf_keras"
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(
        256 << 10, max_shards=len(spec["ps"])
    )
    strategy = tf.distribute.ParameterServerStrategy(
        resolver, variable_partitioner=partitioner if legacy else None
    )
    keras: Any = importlib.import_module("tf_keras" if legacy else "keras")
    with strategy.scope():
        model = _model(keras, case)
    x, y = _data(case)
    batch = BATCH if case.model == "embedding" else 64

    def dataset(context: Any = None) -> Any:
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch, drop_remainder=True)
        return data.repeat().prefetch(2)

    data: Any = dataset()
    if not legacy:
        import tfdist

        tfdist.plug(model, **case.options)
        data = dataset if case.way == "tfdist own" else data
    for line in sys.stdin:
        if line == "evaluate\n":
            print(json.dumps(dict(model.evaluate(*_images()[1], 64, verbose=0, return_dict=True))))
            sys.stdout.flush()
            continue
        steps = int(line.split()[1])
        before, began = _loopback_bytes(), time.perf_counter()
        history = model.fit(data, steps_per_epoch=steps, epochs=1, verbose=0)
        answer = {
            "seconds": time.perf_counter() - began,
            "bytes": _loopback_bytes() - before,
            "iterations": int(model.optimizer.iterations.numpy()),
            **{name: values[-1] for name, values in history.history.items()},
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    if sys.argv[1] == "server":
        _serve(given, sys.argv[3], int(sys.argv[4]))
    else:
        _chief(given, Case(**json.loads(sys.argv[3])))
