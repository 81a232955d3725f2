"""Schedules, for any number of stages and microbatches."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.errors import StrategyError
from tfdist.schedules import schedule as schedules
from tfdist.schedules.schedule import SCHEDULES, Slot

names = st.sampled_from(sorted({*SCHEDULES} - {"interleaved", "zb_v"}))  # test_interleaved has them
stages = st.integers(1, 9)
microbatches = st.integers(1, 20)
sized = settings(max_examples=60, deadline=None)
WAYS = {"zero_bubble": ("forward", "backward", "weights")}


@sized
@given(names, stages, microbatches)
def test_every_microbatch_passes_every_stage_once_each_way(name: str, k: int, m: int) -> None:
    slots = schedules.schedule(name, k, m)
    done = [(slot.stage, slot.microbatch, slot.direction) for slot in slots]
    ways = WAYS.get(name, ("forward", "backward"))
    wanted = {(s, i, d) for s in range(k) for i in range(m) for d in ways}
    assert len(done) == len(set(done))
    assert set(done) == wanted


@sized
@given(names, stages, microbatches)
def test_nothing_begins_before_what_it_needs_has_ended(name: str, k: int, m: int) -> None:
    slots = schedules.schedule(name, k, m)
    clock = {(s.stage, s.microbatch, s.direction): s.clock for s in slots}
    for (stage, i, direction), now in clock.items():
        if direction == "forward" and stage:
            assert clock[stage - 1, i, "forward"] < now
        if direction == "backward":
            assert clock[stage, i, "forward"] < now
            if stage < k - 1:
                assert clock[stage + 1, i, "backward"] < now
        if direction == "weights":
            assert clock[stage, i, "backward"] < now


@sized
@given(names, stages, microbatches)
def test_a_stage_does_one_thing_at_a_time(name: str, k: int, m: int) -> None:
    slots = schedules.schedule(name, k, m)
    places = [(slot.stage, slot.clock) for slot in slots]
    assert len(places) == len(set(places))
    assert [slot.clock for slot in slots] == sorted(slot.clock for slot in slots)


@sized
@given(stages, microbatches)
def test_1f1b_holds_at_most_as_many_microbatches_as_stages_follow(k: int, m: int) -> None:
    slots = schedules.schedule("1f1b", k, m)
    for stage in range(k):
        assert schedules.peak_alive(slots, stage) == min(k - stage, m)


@sized
@given(stages, microbatches)
def test_gpipe_holds_all_microbatches(k: int, m: int) -> None:
    slots = schedules.schedule("gpipe", k, m)
    assert [schedules.peak_alive(slots, stage) for stage in range(k)] == [m] * k


@sized
@given(stages, microbatches)
def test_the_bubble_is_as_the_papers_say(k: int, m: int) -> None:
    for name in ("gpipe", "1f1b"):
        found = schedules.bubble(schedules.schedule(name, k, m))
        assert found == pytest.approx((k - 1) / (m + k - 1))
    assert schedules.bubble(schedules.schedule("sequential", k, m)) == pytest.approx(1 - 1 / k)


@sized
@given(stages, microbatches)
def test_zero_bubble_waits_little_and_holds_little(k: int, m: int) -> None:
    slots = schedules.schedule("zero_bubble", k, m)
    least = 3 * m + k - 1  # the last stage waits for its first microbatch
    length = 1 + max(slot.clock for slot in slots)
    assert least <= length < least + k
    assert length <= 3 * (m + k - 1)  # that of 1F1B, whose backwards take two clocks
    for stage in range(k):
        assert schedules.peak_alive(slots, stage) <= min(m, 2 * (k - stage) + 2)
        undone = most = 0
        for slot in slots:
            if slot.stage == stage and slot.direction != "weights":
                undone += 1 if slot.direction == "forward" else -1
                most = max(most, undone)
        assert most == min(m, 2 * (k - stage) - 1)  # as far ahead as fills the way there and back


@sized
@given(names, stages, microbatches)
def test_weights_that_stand_beside_each_other_go_together(name: str, k: int, m: int) -> None:
    slots = schedules.schedule(name, k, m)
    groups = list(schedules.in_one_go(slots))
    assert sorted(slot for group in groups for slot in group) == sorted(slots)
    for stage in range(k):
        own = [group for group in groups if group[0].stage == stage]
        assert [slot for group in own for slot in group] == [s for s in slots if s.stage == stage]
        for before, after in itertools.pairwise(own):
            assert not before[-1].direction == after[0].direction == "weights"
        for group in own:
            assert len(group) == 1 or {slot.direction for slot in group} == {"weights"}
    seen: set[Slot] = set()
    for group in groups:  # each stands behind all that it needs
        for slot in group:
            if slot.direction == "weights":
                assert any(s[1:] == (slot.stage, slot.microbatch, "backward") for s in seen)
        seen |= set(group)


def test_gradients_of_weights_wait_until_those_of_four_can_go_together() -> None:
    drawn = schedules.text(schedules.schedule("zero_bubble", 1, 6))
    assert drawn == "stage 0 | F0 B0 F1 B1 F2 B2 F3 B3 W0 W1 W2 W3 F4 B4 F5 B5 W4 W5"
    last = [
        len(group)
        for group in schedules.in_one_go(schedules.schedule("zero_bubble", 2, 12))
        if (group[0].stage, group[0].direction) == (1, "weights")
    ]
    assert last == [4, 4, 4]


@sized
@given(names, stages, microbatches)
def test_evaluation_runs_the_forwards_alone(name: str, k: int, m: int) -> None:
    slots = schedules.forward_only(schedules.schedule(name, k, m))
    assert {(s.stage, s.microbatch) for s in slots} == {(s, i) for s in range(k) for i in range(m)}
    clock = {(s.stage, s.microbatch): s.clock for s in slots}
    assert all(clock[s - 1, i] < now for (s, i), now in clock.items() if s)
    length = 1 + max(slot.clock for slot in slots)
    assert length == (k * m if name == "sequential" and k * m > 1 else m + k - 1)


def test_the_tables_in_the_docstring_are_the_schedules() -> None:
    for name, k in (("gpipe", 3), ("1f1b", 3), ("zero_bubble", 2)):
        drawn = schedules.text(schedules.schedule(name, k, 4)).splitlines()
        assert all(f"    {line}" in (schedules.__doc__ or "") for line in drawn)


@pytest.mark.parametrize(("stages", "first"), [(10, "stage 0 | F0"), (11, "stage  0 | F0")])
def test_stages_stand_under_each_other(stages: int, first: str) -> None:
    rows = schedules.text(schedules.schedule("gpipe", stages, 1)).splitlines()
    assert rows[0].startswith(first)
    assert len({row.index("|") for row in rows}) == 1


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(
        StrategyError, match="give one of gpipe, 1f1b, zero_bubble, interleaved, zb_v, sequential"
    ):
        schedules.schedule("zigzag", 2, 2)


@pytest.mark.parametrize("sizes", [(0, 1), (2, -1), (True, 2), (2, 1.5)])
def test_sizes_below_one_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(StrategyError, match="at least 1"):
        schedules.schedule("gpipe", *sizes)


def test_slots_sort_by_clock() -> None:
    assert Slot(1, 0, 0, "forward") < Slot(2, 0, 0, "forward")
