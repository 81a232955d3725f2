"""Large gradients travel in buckets, from the last layer's on, and change nothing else."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.training.comparing import mirrored, same
from tests.training.models import X
from tfdist.compat import tf_collectives, tf_strategies
from tfdist.training.peers import packing
from tfdist.training.peers.buckets import BUCKET_BYTES, LANES, in_buckets

SIDE = 1100
"""A kernel of so many rows and columns is a bucket."""

Graph = list[tf.Operation]


@given(st.lists(st.integers(0, 30)), st.integers(1, 20))
def test_each_is_in_one_bucket_and_a_bucket_is_sent_when_it_is_full(
    sizes: list[int], limit: int
) -> None:
    buckets = in_buckets(sizes, limit)
    assert sorted(place for bucket in buckets for place in bucket) == list(range(len(sizes)))
    for bucket in buckets:
        assert bucket == sorted(bucket, reverse=True)
        full = [place for place in bucket if sum(sizes[i] for i in bucket if i >= place) >= limit]
        assert full in ([], [bucket[-1]])
        if not full:
            assert bucket is buckets[-1]


def test_what_is_large_goes_alone_and_at_once() -> None:
    assert in_buckets([9, 1, 30, 2, 2, 30, 1], 10) == [[5], [2], [6, 4, 3, 1, 0]]
    assert in_buckets([1, 2], 10) == [[1, 0]]
    assert in_buckets([], 10) == []


@pytest.fixture(scope="module")
def summed() -> tuple[Graph, list[np.ndarray]]:
    """The all-reduces of a replica's sum of nine tensors, and what it is."""
    strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(2)])
    tf_collectives.separate_collectives(strategy)
    for _ in range(2):  # as two models of one strategy do
        tf_collectives.open_lanes(strategy, LANES)
    assert tf_collectives.lanes(strategy) == LANES
    large, small = BUCKET_BYTES // 4, 10

    def on_replica() -> list[tf.Tensor]:
        number = 1 + tf.distribute.get_replica_context().replica_id_in_sync_group
        sizes = [small, *[large] * 5, small, small]
        own = [tf.fill([size], tf.cast(number * i, tf.float32)) for i, size in enumerate(sizes)]
        values: list[tf.Tensor] = packing.sum_by_dtype([*own, tf.cast(own[1][:3], tf.float16)])
        return values

    function = tf.function(lambda: strategy.run(on_replica), autograph=False)
    with tf_strategies.without_merge_call(strategy):  # as steps are traced
        graph = function.get_concrete_function().graph
    sums = [op for op in graph.get_operations() if op.type == "CollectiveReduceV2"]
    of_first = [op for op in sums if op.device.endswith("CPU:0")]
    values = [strategy.experimental_local_results(one)[0].numpy() for one in function()]
    return of_first, values


def test_sums_of_buckets_are_the_sums(summed: tuple[Graph, list[np.ndarray]]) -> None:
    values = summed[1]
    for i, value in enumerate(values[:-1]):
        np.testing.assert_array_equal(value, np.full_like(value, 3.0 * i))
    assert values[-1].dtype == np.float16
    assert values[-1].tolist() == [3.0] * 3


def test_a_sum_waits_for_that_before_in_its_lane_alone(
    summed: tuple[Graph, list[np.ndarray]],
) -> None:
    sums = summed[0]
    assert len(sums) == 5 + 2  # the large ones, the small ones, and those of another type
    for number, one in enumerate(sums):
        waits_for = {sums.index(op) for op in one.control_inputs if op in sums}
        assert waits_for == ({number - LANES} if number >= LANES else set())


def large() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((X.shape[1],)),
            keras.layers.Dense(SIDE, "tanh"),
            keras.layers.Dense(SIDE, "tanh"),
            keras.layers.Dense(SIDE, "tanh"),
            keras.layers.Dense(1),
        ]
    )
    assert sum(4 * w.size >= BUCKET_BYTES for w in model.get_weights()) == 2
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    return model


@pytest.mark.parametrize("replicas", [2, 3])
def test_a_model_of_several_buckets_is_one_machines(replicas: int) -> None:
    y = X.sum(axis=1, keepdims=True)

    def fit(model: keras.Model) -> object:
        return model.fit(X[:70], y[:70], batch_size=32, epochs=2, shuffle=False, verbose=0).history

    same(large, fit, on=(replicas,))
    assert tf_collectives.lanes(mirrored(replicas)) == LANES


def test_one_device_has_one_lane() -> None:
    assert tf_collectives.lanes(tf.distribute.OneDeviceStrategy("CPU:0")) == 1
