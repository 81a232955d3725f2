"""Where a chain of layers is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.errors import PlugError
from tfdist.schedules.partition import cost_of, split

chains = st.lists(st.floats(0.1, 10), min_size=1, max_size=9)


@settings(max_examples=100, deadline=None)
@given(chains, st.integers(1, 4), st.randoms(use_true_random=False))
def test_no_other_split_has_a_faster_slowest_stage(costs: list[float], k: int, random) -> None:  # type: ignore[no-untyped-def]
    if len(costs) < k:
        return
    crossing = [random.uniform(0, 3) for _ in costs[1:]]
    found = max(cost_of(costs, split(costs, k, cut_costs=crossing), crossing))
    every = itertools.combinations(range(1, len(costs)), k - 1)
    assert found == pytest.approx(min(max(cost_of(costs, cuts, crossing)) for cuts in every))


def test_equal_layers_are_shared_equally() -> None:
    assert split([1.0] * 8, 4) == (2, 4, 6)


def test_among_equal_splits_the_one_with_the_least_traffic_is_taken() -> None:
    assert split([1.0, 0.0, 0.0, 1.0], 2, cut_costs=[0.2, 0.1, 0.2]) == (2,)


def test_a_split_keeps_within_the_memory() -> None:
    costs, memory = [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 6.0]
    assert split(costs, 2, memory=memory, memory_limit=6) == (3,)
    with pytest.raises(PlugError, match="no split into 2 stages"):
        split(costs, 2, memory=memory, memory_limit=5)


def test_more_stages_than_layers_are_refused() -> None:
    with pytest.raises(PlugError, match="2 layers for 3 stages"):
        split([1.0, 1.0], 3)
