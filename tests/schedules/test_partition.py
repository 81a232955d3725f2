"""Where a chain of layers is cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.errors import PlugError
from tfdist.schedules.partition import cost_of, split


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[float], list[float], list[float], int]:
    """Costs and bytes of layers, what crosses the cuts between them, and a number of stages."""
    numbers = st.integers(0, 20)  # small ones, so that many splits are equally good
    stages = draw(st.integers(1, 4))
    count = draw(st.integers(stages, 9))
    costs, memory = (draw(st.lists(numbers, min_size=count, max_size=count)) for _ in range(2))
    crossing = draw(st.lists(numbers, min_size=count - 1, max_size=count - 1))
    # Eighths, whose sums are exact: one is neither the least cost nor the most.
    return [n / 8 for n in costs], [n / 8 for n in memory], [n / 8 for n in crossing], stages


def stages_of(cuts: Sequence[int], layers: int) -> list[range]:
    return [range(a, b) for a, b in itertools.pairwise((0, *cuts, layers))]


def slowest_and_traffic(
    cuts: Sequence[int], costs: Sequence[float], crossing: Sequence[float]
) -> tuple[float, float]:
    """What a split is judged by, counted layer by layer."""
    stages = [
        sum(costs[layer] for layer in stage)
        + sum(crossing[cut - 1] for cut in cuts if cut in (stage.start, stage.stop))
        for stage in stages_of(cuts, len(costs))
    ]
    return max(stages), sum(crossing[cut - 1] for cut in cuts)


@settings(max_examples=150, deadline=None)
@given(chains())
def test_no_other_split_is_faster_or_as_fast_with_less_traffic(chain: Any) -> None:
    costs, _, crossing, stages = chain
    found = split(costs, stages, cut_costs=crossing)
    assert len(found) == stages - 1
    assert list(found) == sorted(set(found))
    every = itertools.combinations(range(1, len(costs)), stages - 1)
    best = min(slowest_and_traffic(cuts, costs, crossing) for cuts in every)
    assert slowest_and_traffic(found, costs, crossing) == best


@settings(max_examples=150, deadline=None)
@given(chains(), st.integers(0, 60))
def test_no_other_split_within_the_memory_is_faster(chain: Any, eighths: int) -> None:
    costs, memory, crossing, stages = chain
    limit = eighths / 8
    fit = [
        cuts
        for cuts in itertools.combinations(range(1, len(costs)), stages - 1)
        if all(sum(memory[i] for i in s) <= limit for s in stages_of(cuts, len(costs)))
    ]
    limited = {"cut_costs": crossing, "memory": memory, "memory_limit": limit}
    if not fit:
        with pytest.raises(PlugError, match="no split"):
            split(costs, stages, **limited)
        return
    found = split(costs, stages, **limited)
    assert found in fit
    best = min(slowest_and_traffic(cuts, costs, crossing) for cuts in fit)
    assert slowest_and_traffic(found, costs, crossing) == best


def test_a_stage_costs_its_layers_and_what_crosses_its_two_borders() -> None:
    assert cost_of([1.0, 2.0, 4.0, 8.0], (1, 3), [0.1, 0.01, 0.001]) == [1.1, 6.101, 8.001]
    assert cost_of([1.0, 2.0, 4.0], (2,)) == [3.0, 4.0]
    assert cost_of([1.0, 2.0], ()) == [3.0]


def test_equal_layers_are_shared_equally() -> None:
    assert split([1.0] * 8, 4) == (2, 4, 6)


def test_one_stage_has_no_cuts() -> None:
    assert split([1.0, 2.0, 3.0], 1) == ()
    assert split([1.0], 1) == ()


def test_as_many_stages_as_layers_have_one_each() -> None:
    assert split([5.0, 1.0, 1.0], 3) == (1, 2)


def test_among_equal_splits_the_one_with_the_least_traffic_is_taken() -> None:
    assert split([1.0, 0.0, 0.0, 1.0], 2, cut_costs=[0.2, 0.1, 0.2]) == (2,)


def test_the_slowest_stage_counts_before_the_traffic_however_fast_all_are() -> None:
    assert split([0.1] * 4, 2, cut_costs=[0.0, 0.05, 0.0]) == (2,)


def test_a_split_keeps_within_the_memory() -> None:
    costs, memory = [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 6.0]
    assert split(costs, 2, memory=memory, memory_limit=6) == (3,)
    with pytest.raises(PlugError) as caught:
        split(costs, 2, memory=memory, memory_limit=5.0)
    assert str(caught.value) == (
        "no split into 2 stages keeps each within 5 bytes: give more stages or machines of more "
        "memory"
    )


def test_a_limit_without_the_layers_memory_limits_nothing() -> None:
    assert split([1.0, 1.0, 1.0, 1.0], 2, memory_limit=0.5) == (2,)


def test_more_stages_than_layers_are_refused() -> None:
    with pytest.raises(PlugError) as caught:
        split([1.0, 1.0], 3)
    assert str(caught.value) == (
        "2 layers for 3 stages: give fewer stages, or a model of more layers (a model inside of "
        "the model counts as one layer)"
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_cost_for_each_cut_must_be_given(count: int) -> None:
    with pytest.raises(ValueError, match=f"^{count} cut costs for 3 layers$"):
        split([1.0, 1.0, 1.0], 2, cut_costs=[0.0] * count)
