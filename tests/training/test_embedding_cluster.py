"""Sharded embeddings on two real parameter servers, in a process of their own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROWS, COLUMNS = 101, 4
IDS = [[0, 1, 1], [5, 100, 0]]


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What `main` has seen."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.test_embedding_cluster"],
        cwd=ROOT,
        env={**os.environ, "GRPC_FAIL_FAST": "use_caller", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_each_shard_is_on_its_own_server(seen: dict[str, Any]) -> None:
    assert sorted(seen["turned"]) == ["ps:0", "ps:1"]
    assert sorted(seen["direct"]) == ["ps:0", "ps:1"]


def test_slots_are_where_their_shards_are(seen: dict[str, Any]) -> None:
    assert seen["slots"]["momentum"] == seen["slots"]["velocity"] == seen["turned"]


def test_lookups_and_updates_run_where_the_shards_are(seen: dict[str, Any]) -> None:
    places = seen["ops"]
    assert places["ResourceGather"] == ["ps:0", "ps:1"]
    assert places["ResourceScatterAdd"] == ["ps:0", "ps:1"]
    for op in ("Unique", "DynamicPartition", "UnsortedSegmentSum"):
        assert places[op] == ["the worker"], op


def test_turning_copies_the_table_from_server_to_server(seen: dict[str, Any]) -> None:
    assert seen["copied"] is True


def test_a_workers_step_is_the_plain_models(seen: dict[str, Any]) -> None:
    assert seen["touched"] == [0, 1, 5, 100]
    assert seen["difference"] < 1e-6


def test_no_addition_of_two_workers_to_different_rows_is_lost(seen: dict[str, Any]) -> None:
    assert seen["sums"] == seen["scheduled"]


def test_an_id_out_of_range_is_an_error_of_the_step(seen: dict[str, Any]) -> None:
    assert seen["out of range"] == "InvalidArgumentError"


def test_the_table_at_start_up_shows_both_servers(seen: dict[str, Any]) -> None:
    lines = seen["placement"].splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["server", "ps:0", "ps:1"]
    assert lines[3] == "items: 101 x 4 in 2 shards, on ps:0 and ps:1"


# ---------------------------------------------------------------- the process


def main() -> None:
    """Trains on a cluster inside this process, and prints what is seen as JSON."""
    import keras
    import numpy as np
    import tensorflow as tf

    from tfdist.training.embeddings.sharded_embedding import ShardedEmbedding, shard_embeddings
    from tfdist.training.embeddings.sparse_updates import SparseUpdates
    from tfdist.training.parameter_server.placement import describe_placement, placed

    def task(device: str) -> str:
        spec = tf.DeviceSpec.from_string(device)
        return f"ps:{spec.task}" if spec.job == "ps" else "the worker"

    tf.config.threading.set_inter_op_parallelism_threads(4)
    strategy = tf.distribute.ParameterServerStrategy(_cluster())
    seen: dict[str, Any] = {}
    keras.utils.set_random_seed(1)

    def make() -> keras.Model:
        inputs = keras.Input((3,), dtype="int64")
        rows = keras.layers.Embedding(ROWS, COLUMNS, name="items")(inputs)
        return keras.Model(inputs, rows)

    with strategy.scope():
        direct = ShardedEmbedding(ROWS, COLUMNS)
        direct.build()
        model = make()
        model.compile("adam")
        before = model.layers[1].get_weights()[0]
        layers = shard_embeddings(model, 2, min_bytes=0)
        model.optimizer.build(model.trainable_variables)
    updates = SparseUpdates(model.optimizer, layers)
    updates.check()
    layer = layers[0]
    seen["direct"] = [task(v.value.device) for v in direct.weights]
    seen["turned"] = [task(v.value.device) for v in layer.weights]
    seen["slots"] = {
        slot: [task(v.value.device) for v in model.optimizer.variables if v.name.endswith(slot)]
        for slot in ("momentum", "velocity")
    }
    seen["copied"] = bool(np.array_equal(before, layer.get_weights()[0]))
    variables = [*model.variables, *model.optimizer.variables]
    seen["placement"] = describe_placement(placed(variables))

    @tf.function
    def step(ids: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(ids)))
        found = tape.gradient(loss, [v.value for v in model.trainable_variables])
        sparse, _ = updates.split(found, model.trainable_variables)
        optimizer = model.optimizer
        updates.apply(updates.ready(sparse), optimizer.learning_rate, optimizer.iterations)

    @tf.function
    def several(ids: Any) -> None:
        for _ in tf.range(1):  # as training does: inside a loop
            step.python_function(ids)

    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    ids = tf.constant(IDS, tf.int64)
    coordinator.schedule(several, args=(ids,))
    coordinator.join()
    after = layer.get_weights()[0]
    seen["touched"] = np.flatnonzero((after != before).any(axis=1)).tolist()

    alone = keras.layers.Embedding(ROWS, COLUMNS, weights=before)
    adam = keras.optimizers.Adam()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(alone(ids)))
    gradient = tape.gradient(loss, alone.weights[0].value)
    adam.apply([tf.convert_to_tensor(gradient)], alone.weights)
    rows = seen["touched"]
    seen["difference"] = float(np.abs(alone.get_weights()[0][rows] - after[rows]).max())

    graph = step.get_concrete_function(ids).graph
    seen["ops"] = {}
    for op in graph.get_operations():
        places = seen["ops"].setdefault(op.type, [])
        places.extend({task(op.device)} - set(places))
        places.sort()

    plain = SparseUpdates(keras.optimizers.SGD(1.0), [direct])
    direct.set_weights([np.zeros((ROWS, COLUMNS), "float32")])

    @tf.function
    def add(first: Any) -> None:
        for k, shard in enumerate(direct.table.shards):
            ones = tf.IndexedSlices(-tf.ones((1, COLUMNS)), tf.reshape(first + k, [1]))
            plain.apply(plain.ready([(ones, shard)]), 1.0, 0)

    for number in range(40):
        coordinator.schedule(add, args=(tf.constant(number),))
    coordinator.join()
    seen["sums"] = float(direct.get_weights()[0].sum())
    seen["scheduled"] = 40 * 2 * COLUMNS

    coordinator.schedule(several, args=(tf.constant([[ROWS, 0, 0], [0, 0, 0]], tf.int64),))
    try:
        coordinator.join()
    except tf.errors.OpError as error:
        seen["out of range"] = type(error).__name__
    print(json.dumps(seen), flush=True)
    os._exit(0)  # servers inside a process do not end


def _cluster() -> Any:
    """Two workers and two parameter servers on free ports of this machine."""
    import tensorflow as tf

    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(5)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    spec = tf.train.ClusterSpec(
        {"worker": addresses[:2], "ps": addresses[2:4], "chief": addresses[4:]}
    )
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=4)
    for job in ("worker", "ps"):
        for index in range(2):
            server = tf.distribute.Server(
                spec, job_name=job, task_index=index, config=config, protocol="grpc"
            )
            _servers.append(server)
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, task_type="chief", task_id=0, rpc_layer="grpc"
    )


_servers: list[Any] = []

if __name__ == "__main__":
    main()
