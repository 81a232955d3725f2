"""The order in which the numbers of replicas are added up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.replica.summation_tree import branches, total


def added_up(values: list[np.float32], workers: int) -> np.float32:
    """Each worker adds up its branches, and everybody those of all."""
    replicas = len(values)
    layouts = [ReplicaLayout(worker=w, workers=workers).virtual(replicas) for w in range(workers)]
    everybody = {}
    for layout in layouts:
        own = {(r, r + 1): values[r] for r in layout.local_replicas}
        for branch in branches(layout.first, layout.first + layout.local, replicas):
            everybody[branch] = total(own, np.add, *branch)
    return total(everybody, np.add, 0, replicas)


@given(
    some.lists(some.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1),
    some.data(),
)
def test_any_number_of_workers_adds_up_to_the_same_bits(
    values: list[float], data: some.DataObject
) -> None:
    workers = data.draw(some.integers(1, len(values)))
    exact = [np.float32(value) for value in values]
    with np.errstate(over="ignore", invalid="ignore"):
        assert added_up(exact, workers).tobytes() == added_up(exact, 1).tobytes()


def test_another_order_would_give_other_bits() -> None:
    values = [np.float32(value) for value in (1e8, 1, -1e8, 1)]
    assert added_up(values, 1) == 0
    assert sum(values[1:], values[0]) == 1


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0, 8), [(0, 8)]),
        ((0, 4), [(0, 4)]),
        ((2, 5), [(2, 4), (4, 5)]),
        ((3, 8), [(3, 4), (4, 8)]),
        ((5, 5), []),
    ],
)
def test_branches_are_the_largest_within_a_span(
    span: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    assert branches(*span, 8) == expected


def test_a_replica_that_nobody_has_is_an_error() -> None:
    with pytest.raises(KeyError):
        total({(0, 1): 1.0}, float.__add__, 0, 2)


@given(some.integers(1, 9), some.integers(0, 30))
def test_the_spans_of_workers_cover_all_virtual_replicas_once(workers: int, more: int) -> None:
    replicas = workers + more
    layouts = [ReplicaLayout(worker=w, workers=workers).virtual(replicas) for w in range(workers)]
    assert [r for layout in layouts for r in layout.local_replicas] == list(range(replicas))
    assert max(one.local for one in layouts) - min(one.local for one in layouts) <= 1
