"""What each replica of a process is given of a batch: its rows, or one that counts nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.data.sharding import bounds_of, make_step

CASES = [
    # total, replicas, first, local: starts, sizes, rows
    (8, 3, 0, 3, [0, 2, 5], [2, 3, 3], [(0, 2), (2, 5), (5, 8)]),
    (8, 3, 1, 2, [2, 5], [3, 3], [(2, 5), (5, 8)]),
    (2, 4, 0, 4, [0, 0, 1, 1], [0, 1, 0, 1], [(0, 1), (0, 1), (1, 2), (1, 2)]),
    (1, 2, 0, 2, [0, 0], [0, 1], [(0, 1), (0, 1)]),
    (1, 3, 1, 1, [0], [0], [(0, 1)]),
    (5, 1, 0, 1, [0], [5], [(0, 5)]),
    (0, 2, 0, 2, [0, 0], [0, 0], [(0, 1), (0, 1)]),
]


@pytest.mark.parametrize("kind", ["an integer", "a tensor"])
@pytest.mark.parametrize(("total", "replicas", "first", "local", "starts", "sizes", "rows"), CASES)
def test_a_replica_gets_its_rows_or_one_that_stands_in(
    total: int,
    replicas: int,
    first: int,
    local: int,
    starts: list[int],
    sizes: list[int],
    rows: list[tuple[int, int]],
    kind: str,
) -> None:
    layout = ReplicaLayout(replicas, first, local)
    given = total if kind == "an integer" else tf.constant(total, tf.int64)
    found = bounds_of(given, layout)
    assert found.total is given
    assert [int(start) for start in found.starts] == starts
    assert [int(size) for size in found.sizes] == sizes
    assert [(int(low), int(high)) for low, high in found.rows] == rows
    whole: Any = int if kind == "an integer" else tf.Tensor
    assert all(isinstance(number, whole) for pair in found.rows for number in pair)


def test_a_step_tells_each_replicas_share_of_the_batch() -> None:
    bounds = bounds_of(8, ReplicaLayout(3, 1, 2))
    step = make_step(["one", "two"], bounds, tf.constant(7, tf.int64))
    assert step.parts == ("one", "two")
    np.testing.assert_array_equal(step.shares, np.array([3 / 8, 3 / 8], "float32"))
    assert step.shares.dtype == tf.float64
    assert (step.starts.numpy().tolist(), step.sizes.numpy().tolist()) == ([2, 5], [3, 3])
    assert int(step.total) == 8
    assert {step.starts.dtype, step.sizes.dtype, step.total.dtype} == {tf.int64}
    assert int(step.fingerprint) == 7


def test_the_shares_of_all_replicas_are_one() -> None:
    shares = [
        make_step([None], bounds_of(9, ReplicaLayout(4, first, 1)), tf.constant(0)).shares
        for first in range(4)
    ]
    assert float(tf.add_n(shares)[0]) == 1.0


def test_a_batch_of_one_row_is_the_whole_share_of_one_replica() -> None:
    step = make_step([None] * 2, bounds_of(1, ReplicaLayout(2, 0, 2)), tf.constant(0))
    assert step.shares.numpy().tolist() == [0.0, 1.0]


def test_an_empty_batch_is_shared_by_nobody() -> None:
    step = make_step([None] * 2, bounds_of(0, ReplicaLayout(2, 0, 2)), tf.constant(0))
    assert step.shares.numpy().tolist() == [0.0, 0.0]
