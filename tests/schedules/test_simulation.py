"""What a step would take: bounds that papers state, and any stages."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tfdist.errors import StrategyError
from tfdist.pipeline import SCHEDULES, SlotSeconds, draw, simulate
from tfdist.schedules import schedule as schedules

sized = settings(max_examples=60, deadline=None)


def speed_up(name: str, tasks: int, microbatches: int) -> float:
    """Over one task, where all stages are equal."""
    stages = tasks * schedules.stages_a_task(name)
    part = tasks / stages
    seconds = simulate(name, stages, microbatches, SlotSeconds(part, part, part)).seconds
    return 3 * tasks * microbatches / seconds


@sized
@given(st.integers(1, 6), st.integers(1, 20))
def test_the_bounds_are_those_of_the_papers(t: int, m: int) -> None:
    for name in ("gpipe", "1f1b"):
        assert speed_up(name, t, m) == pytest.approx(t * m / (m + t - 1))
    assert speed_up("sequential", t, m) == pytest.approx(1)
    if m % t == 0:
        assert speed_up("interleaved", t, m) == pytest.approx(t * 2 * m / (2 * m + t - 1))
    if m >= 2 * t - 1:
        assert speed_up("zb_v", t, m) == pytest.approx(t * 6 * m / (6 * m + t - 1))


@sized
@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.integers(1, 4),
    st.integers(1, 9),
    st.data(),
)
def test_nothing_begins_before_what_it_needs_and_a_task_does_one_thing(
    name: str, t: int, m: int, data: st.DataObject
) -> None:
    stages = t * schedules.stages_a_task(name)
    numbers = st.lists(st.floats(0.1, 5), min_size=stages, max_size=stages)
    forward, backward, weights = (data.draw(numbers) for _ in range(3))
    seconds = SlotSeconds(forward, backward, weights, data.draw(st.floats(0, 2)))
    found = simulate(name, stages, m, seconds)
    at = {one.slot[1:]: one for one in found.slots}
    assert len(at) == len(found.slots)
    for (stage, microbatch, direction), one in at.items():
        if direction == "forward" and stage:
            assert one.begin >= at[stage - 1, microbatch, "forward"].end
        if direction == "backward" and stage + 1 < stages:
            assert one.begin >= at[stage + 1, microbatch, "backward"].end
        if direction == "weights":
            assert one.begin >= at[stage, microbatch, "backward"].end
    for row in set(found.rows):
        own = sorted((o.begin, o.end) for o in found.slots if found.rows[o.slot.stage] == row)
        assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(own))
    work = sum(one.end - one.begin for one in found.slots)
    assert work / t <= found.seconds + 1e-6


def test_a_slow_stage_and_a_slow_link_cost_what_they_must() -> None:
    assert simulate("1f1b", 2, 1, SlotSeconds(hand_over=0.5)).seconds == 6 + 2 * 0.5
    assert simulate("1f1b", 2, 4, SlotSeconds([1, 3])).seconds == 1 + 4 * (3 + 2) + 2


def test_a_measured_step_is_taken_by_stage() -> None:
    measured = simulate("zero_bubble", 2, 4, SlotSeconds([1, 2], [3, 4], [5, 6]))
    assert SlotSeconds.of_timings(measured) == SlotSeconds([1, 2], [3, 4], [5, 6])
    joined = simulate("1f1b", 2, 4, SlotSeconds([1, 2], [3, 4], [5, 6]))
    assert SlotSeconds.of_timings(joined, 0.1) == SlotSeconds([1, 2], [4, 5], [4, 5], 0.1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"forward": 0}, "forward=0: give seconds above 0"),
        ({"backward": [1, -1]}, "backward=[1, -1]: give seconds above 0"),
        ({"weights": []}, "weights=[]: give seconds above 0"),
        ({"hand_over": -1}, "hand_over=-1: give seconds, at least 0"),
    ],
)
def test_what_is_no_time_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(StrategyError, match=re.escape(told)):
        SlotSeconds(**given)


def test_a_number_is_wanted_for_each_stage() -> None:
    with pytest.raises(StrategyError, match="forward has 3 numbers for 2 stages"):
        simulate("gpipe", 2, 2, SlotSeconds([1, 2, 3]))


def test_the_table_of_the_page_is_what_is_simulated() -> None:
    text = (ROOT / "docs" / "strategies" / "pipeline.md").read_text()
    rows = re.findall(r'^\| (`"[^|]*) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$', text, re.MULTILINE)
    assert len(rows) == 4
    for names, *told in rows:
        for name in re.findall(r'"(\w+)"', names):
            assert [f"{speed_up(name, t, 8):.2f}" for t in (2, 3, 4)] == told, name


@pytest.mark.parametrize(
    ("name", "stages", "tasks", "told"),
    [
        ("zb_v", 4, 1, "4 stages on 1 tasks: give two for each task"),
        ("zb_v", 4, 3, "4 stages on 3 tasks: give two for each task"),
        ("1f1b", 4, 0, "tasks=0: give a number of at least 1"),
        ("interleaved", 4, 3, "4 stages on 3 tasks"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(name: str, stages: int, tasks: int, told: str) -> None:
    with pytest.raises(StrategyError, match=told):
        simulate(name, stages, 8, tasks=tasks)
    with pytest.raises(StrategyError, match=told):
        draw(name, stages, 8, tasks=tasks)


def test_each_border_has_its_own_hand_over() -> None:
    one = SlotSeconds(1.0, 0.5, 0.5, hand_over=[2.0, 0.0])
    found = {t.slot[1:]: t for t in simulate("gpipe", 3, 1, one).slots}
    assert found[1, 0, "forward"].begin == 3.0
    assert found[2, 0, "forward"].begin == 4.0
    assert found[1, 0, "backward"].begin == 6.0
    assert found[0, 0, "backward"].begin == 9.0


def test_hand_overs_are_as_many_as_borders() -> None:
    told = "hand_over has 3 numbers for 3 stages: give one for each of the 2 borders between them"
    with pytest.raises(StrategyError, match=told):
        simulate("1f1b", 3, 1, SlotSeconds(hand_over=[0.0] * 3))
    with pytest.raises(StrategyError, match=r"hand_over=\[-0.5\]: give seconds, at least 0"):
        SlotSeconds(hand_over=[-0.5])


def test_times_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SlotSeconds().forward = 2.0  # type: ignore[misc]


def test_tasks_are_named_where_they_have_several_stages() -> None:
    assert simulate("interleaved", 4, 2).tasks == ("task 0", "task 1", "task 0", "task 1")
    assert simulate("gpipe", 2, 2).tasks == ()
    assert simulate("interleaved", 1, 2).tasks == ()
