"""Sums level by level: which grids there are, what they spare, and that they give the sum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdist.strategies.sum_levels import SumLevels, levels_of


@pytest.mark.parametrize(
    ("count", "sizes", "messages"),
    [
        (6, (3, 2), 7),
        (8, (4, 2), 8),
        (12, (4, 3), 10),
        (64, (4, 4, 4), 18),
        (512, (4, 4, 4, 4, 2), 26),
    ],
)
def test_many_hosts_wait_for_few_messages(
    count: int, sizes: tuple[int, ...], messages: int
) -> None:
    levels = levels_of([f"host{n}" for n in range(count)])
    assert levels is not None
    assert levels.order == tuple(range(count))
    assert sorted(levels.sizes) == sorted(sizes)
    assert levels.messages == messages


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 13])
def test_few_and_primes_go_by_the_ring(count: int) -> None:
    assert levels_of([f"host{n}" for n in range(count)]) is None
    assert levels_of(["here"] * count) is None


def test_those_of_a_host_are_summed_first() -> None:
    levels = levels_of(["a", "b", "a", "b", "a", "b", "a", "b"])
    assert levels == SumLevels((0, 2, 4, 6, 1, 3, 5, 7), (4, 2))
    assert levels.group(5, 0) == (1, 3, 5, 7)
    assert levels.group(5, 1) == (4, 5)
    assert [levels.place(5, level) for level in (0, 1)] == [2, 1]


def test_hosts_that_do_not_come_out_even_are_not_heeded() -> None:
    levels = levels_of(["a"] * 5 + ["b"] * 3)
    assert levels is not None
    assert levels.order == tuple(range(8))


def test_two_hosts_of_two_spare_bytes_alone() -> None:
    assert levels_of(["a", "a", "b", "b"]) is None
    assert levels_of(["a", "a", "b", "b"], wanted=True) == SumLevels((0, 1, 2, 3), (2, 2))
    assert levels_of(["a", "b", "c", "d"], wanted=True) is None


def test_large_sums_go_by_the_ring_where_links_are_quick() -> None:
    levels = levels_of(["here"] * 12)
    assert levels is not None
    assert levels.takes(12 << 18)
    assert not levels.takes((12 << 18) + 1)
    assert levels.takes((12 << 18) + 1, wanted=True)


def test_smallest_sums_go_by_a_gather_where_it_waits_for_as_few() -> None:
    six, many = (levels_of([f"host{n}" for n in range(count)]) for count in (6, 24))
    assert six is not None
    assert many is not None
    assert not six.takes(1024, wanted=True)
    assert many.takes(1024)


@pytest.mark.parametrize(
    ("order", "sizes"), [((0, 1, 2), (2, 2)), ((0, 1, 2, 2), (2, 2)), ((0, 1), (2, 1))]
)
def test_a_grid_that_does_not_fit_is_refused(
    order: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="do not hold the replicas"):
        SumLevels(order, sizes)


@given(st.integers(1, 6), st.integers(1, 12), st.randoms(use_true_random=False))
def test_levels_give_everybody_the_sum(tasks: int, count: int, random: object) -> None:
    hosts = [f"host{n}" for n in range(count) for _ in range(tasks)]
    random.shuffle(hosts)  # type: ignore[attr-defined]
    levels = levels_of(hosts, wanted=True)
    if levels is None:
        return
    brought = {replica: {replica} for replica in levels.order}
    for level, size in enumerate(levels.sizes):
        for replica in levels.order:
            group = levels.group(replica, level)
            assert group[levels.place(replica, level)] == replica
            assert len(set(group)) == size
            assert {levels.group(other, level) for other in group} == {group}
            same = [levels.place(replica, before) for before in range(level)]
            assert all([levels.place(o, b) for b in range(level)] == same for o in group)
        brought = {
            replica: set().union(*(brought[other] for other in levels.group(replica, level)))
            for replica in levels.order
        }
    assert all(sum_ == set(levels.order) for sum_ in brought.values())
