"""The rows of a global batch are shared out once, evenly and in order. Needs no TensorFlow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.strategies.layout import ReplicaLayout

sized = settings(max_examples=80, deadline=None)


def layout(workers: int, local: int, worker: int = 0) -> ReplicaLayout:
    return ReplicaLayout(workers * local, worker * local, local, worker, workers)


@sized
@given(st.integers(1, 9), st.integers(0, 200))
def test_every_row_belongs_to_one_replica_in_their_order(replicas: int, total: int) -> None:
    parts = [ReplicaLayout(replicas).bounds(total, number) for number in range(replicas)]
    rows = [row for start, stop in parts for row in range(start, stop)]
    assert rows == list(range(total))


@sized
@given(st.integers(1, 9), st.integers(0, 200))
def test_the_parts_differ_by_one_row_at_most(replicas: int, total: int) -> None:
    parts = [ReplicaLayout(replicas).bounds(total, number) for number in range(replicas)]
    sizes = {stop - start for start, stop in parts}
    assert max(sizes) - min(sizes) <= 1


def test_the_bounds_are_these() -> None:
    assert [layout(3, 1).bounds(8, number) for number in range(3)] == [(0, 2), (2, 5), (5, 8)]
    assert [layout(1, 4).bounds(2, number) for number in range(4)] == [
        (0, 0),
        (0, 1),
        (1, 1),
        (1, 2),
    ]


def test_one_replica_has_the_whole_batch() -> None:
    alone = ReplicaLayout()
    assert alone.bounds(13, 0) == (0, 13)
    assert list(alone.local_replicas) == list(alone.range_all()) == [0]
    assert alone.is_chief
    assert (alone.worker, alone.workers, alone.task) == (0, 1, "")


def test_a_worker_knows_its_own_replicas_among_all() -> None:
    third = layout(3, 2, worker=2)
    assert list(third.local_replicas) == [4, 5]
    assert list(third.range_all()) == [0, 1, 2, 3, 4, 5]
    assert not third.is_chief
    assert layout(3, 2).is_chief


def test_a_batch_is_described_with_what_each_replica_gets() -> None:
    assert layout(2, 2).describe_batch(256) == "global batch 256 = 4 replicas x 64"
    assert layout(3, 1).describe_batch(8) == "global batch 8 = 3 replicas x 2 to 3"
    assert layout(3, 1).describe_batch(2) == "global batch 2 = 3 replicas x 0 to 1"


@pytest.mark.parametrize(
    ("replicas", "first", "local"), [(2, 1, 2), (2, 2, 1), (1, -1, 1), (2, 0, 0), (3, 2, -1)]
)
def test_replicas_that_the_job_does_not_have_are_refused(
    replicas: int, first: int, local: int
) -> None:
    with pytest.raises(ValueError, match="do not lie within") as caught:
        ReplicaLayout(replicas, first, local)
    assert str(caught.value) == (
        f"replicas {first} to {first + local - 1} do not lie within the job's {replicas}"
    )


@pytest.mark.parametrize(("worker", "workers"), [(1, 1), (2, 2), (-1, 2), (0, 0)])
def test_a_worker_that_the_job_does_not_have_is_refused(worker: int, workers: int) -> None:
    with pytest.raises(ValueError, match="does not lie within") as caught:
        ReplicaLayout(4, 0, 1, worker, workers)
    assert str(caught.value) == f"worker {worker} does not lie within {workers} workers"


@pytest.mark.parametrize(("worker", "workers"), [(0, 1), (1, 2), (3, 4)])
def test_the_last_worker_and_the_last_replica_are_of_the_job(worker: int, workers: int) -> None:
    made = ReplicaLayout(workers, worker, 1, worker, workers)
    assert list(made.local_replicas) == [worker]


def test_a_layout_is_a_value() -> None:
    assert layout(2, 1, 1) == layout(2, 1, 1)
    assert hash(layout(2, 1, 1)) == hash(layout(2, 1, 1))
    with pytest.raises(AttributeError):
        layout(2, 1).worker = 1  # type: ignore[misc]


@sized
@given(st.integers(1, 5), st.integers(0, 7))
def test_every_virtual_replica_belongs_to_one_worker(workers: int, more: int) -> None:
    replicas = workers + more
    each = [layout(workers, 2, worker).virtual(replicas) for worker in range(workers)]
    assert [number for one in each for number in one.local_replicas] == list(range(replicas))
    assert {one.replicas for one in each} == {replicas}
    assert {one.workers for one in each} == {workers}
