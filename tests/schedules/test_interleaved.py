"""Schedules in which a task has several stages, for any number of tasks and microbatches."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.errors import StrategyError
from tfdist.pipeline import PipelinePlan, Slot, Timings, draw
from tfdist.schedules import schedule as schedules

tasks = st.integers(1, 6)
turns = st.integers(1, 4)
microbatches = st.integers(1, 20)
sized = settings(max_examples=60, deadline=None)

FOUR = """\
task 0 | F0a F1a F2a F3a F0b F1b F2b F3b F4a F5a F6a B0b F7a B1b .   .   F4b B2b F5b B3b F6b B0a F7b B1a B2a B3a .   B4b .   B5b .   B6b .   B7b B4a B5a B6a B7a
task 1 | .   F0a F1a F2a F3a F0b F1b F2b F3b F4a B0b F5a B1b F6a B2b F7a B3b F4b B0a F5b B1a F6b B2a F7b B3a .   B4b .   B5b .   B6b .   B7b B4a B5a B6a B7a .
task 2 | .   .   F0a F1a F2a F3a F0b F1b F2b B0b F3b B1b F4a B2b F5a B3b F6a B0a F7a B1a F4b B2a F5b B3a F6b B4b F7b B5b .   B6b .   B7b B4a B5a B6a B7a .   .
task 3 | .   .   .   F0a F1a F2a F3a F0b B0b F1b B1b F2b B2b F3b B3b F4a B0a F5a B1a F6a B2a F7a B3a F4b B4b F5b B5b F6b B6b F7b B7b B4a B5a B6a B7a .   .   ."""  # noqa: E501
"""Narayanan et al., 2021, figure 4: 8 microbatches, 4 tasks with 2 stages each."""

V = """\
task 0 | F0a F1a F2a F0b B0b W0b F1b B1b W1b B0a W0a F2b B2b W2b B1a W1a B2a W2a .
task 1 | .   F0a F0b F1a F1b B0b W0b F2a B0a W0a F2b B1b W1b B1a B2b B2a W1a W2b W2a"""
"""ZB-V of 3 microbatches on 2 tasks: down and up again without a wait, in 6 M + T - 1 clocks."""


def rows(slots: Sequence[Slot], of: Sequence[int]) -> list[list[Slot]]:
    """What each task does, by the clock."""
    return [[slot for slot in slots if of[slot.stage] == task] for task in range(1 + max(of))]


def check(slots: Sequence[Slot], of: Sequence[int], count: int, ways: Sequence[str]) -> None:
    """Each microbatch passes each stage once each way, after what it needs, one a task's clock."""
    clock = {(s.stage, s.microbatch, s.direction): s.clock for s in slots}
    assert len(clock) == len(slots) == len(of) * count * len(ways)
    assert [slot.clock for slot in slots] == sorted(slot.clock for slot in slots)
    for own in rows(slots, of):
        assert len({slot.clock for slot in own}) == len(own)
    for (stage, m, direction), now in clock.items():
        if direction == "forward" and stage:
            assert clock[stage - 1, m, "forward"] < now
        if direction == "backward":
            assert clock[stage, m, "forward"] < now
            assert stage + 1 == len(of) or clock[stage + 1, m, "backward"] < now
        if direction == "weights":
            assert clock[stage, m, "backward"] < now


def test_the_figure_of_the_paper() -> None:
    slots = schedules.schedule("interleaved", 8, 8)
    assert schedules.text(slots, schedules.placement("interleaved", 8, 4)) == FOUR


def test_a_v() -> None:
    slots = schedules.schedule("zb_v", 4, 3)
    assert schedules.text(slots, schedules.placement("zb_v", 4, 2)) == V


@sized
@given(tasks, turns, microbatches)
def test_interleaved_is_as_long_and_holds_as_much_as_the_paper_says(t: int, v: int, m: int) -> None:
    of = schedules.placement("interleaved", v * t, t)
    slots = schedules.schedule("interleaved", v * t, m, t)
    check(slots, of, m, ("forward", "backward"))
    full = -(-m // t) * t  # the next multiple of the tasks
    length = 1 + max(slot.clock for slot in slots)
    assert length <= 2 * v * full + 2 * (t - 1)
    if m == full:
        assert length == 2 * v * m + 2 * (t - 1)
        assert schedules.bubble(slots, of) == pytest.approx((t - 1) / (v * m + t - 1))
    for task in range(t):
        most = min(v * m, t * (v - 1) + 2 * (t - task) - 1)
        assert schedules.peak_alive(slots, task, of) <= most


@sized
@given(st.integers(1, 7), microbatches)
def test_interleaved_with_one_stage_a_task_is_as_long_as_1f1b(t: int, m: int) -> None:
    slots = schedules.schedule("interleaved", t, m, t)
    plain = schedules.schedule("1f1b", t, m)
    assert slots[-1].clock == plain[-1].clock


@sized
@given(tasks, microbatches)
def test_zb_v_waits_for_nothing_and_holds_what_1f1b_holds(t: int, m: int) -> None:
    of = schedules.placement("zb_v", 2 * t, t)
    slots = schedules.schedule("zb_v", 2 * t, m)
    check(slots, of, m, ("forward", "backward", "weights"))
    assert [schedules.peak_alive(slots, task, of) <= 2 * t for task in range(t)] == [True] * t
    if m >= 2 * t - 1:
        for task, own in enumerate(rows(slots, of)):
            assert own[0].clock == task
            assert own[-1].clock < 6 * m + t - 1
        assert schedules.bubble(slots, of) == pytest.approx((t - 1) / (6 * m + t - 1))


@sized
@given(tasks, st.data())
def test_a_v_that_is_not_full_takes_four_clocks_more_for_each_microbatch(
    t: int, data: st.DataObject
) -> None:
    m = data.draw(st.integers(1, t))
    assert 1 + schedules.schedule("zb_v", 2 * t, m)[-1].clock == 4 * m + 4 * t - 2


@sized
@given(st.sampled_from(["interleaved", "zb_v"]), tasks, microbatches)
def test_evaluation_runs_the_forwards_alone(name: str, t: int, m: int) -> None:
    of = schedules.placement(name, 2 * t, t)
    slots = schedules.forward_only(schedules.schedule(name, 2 * t, m), of)
    check(slots, of, m, ("forward",))


@sized
@given(st.sampled_from(["1f1b", "zero_bubble", "zb_v", "interleaved"]), tasks, microbatches)
def test_only_what_a_task_does_next_goes_together(name: str, t: int, m: int) -> None:
    of = schedules.placement(name, 2 * t, t)
    slots = schedules.schedule(name, 2 * t, m)
    groups = list(schedules.in_one_go(slots, of))
    for task, own in enumerate(rows(slots, of)):
        mine = [group for group in groups if of[group[0].stage] == task]
        assert [slot for group in mine for slot in group] == own
        assert all(len({s.stage for s in group}) == 1 for group in mine)


@pytest.mark.parametrize(
    ("name", "stages", "count", "where"),
    [
        ("interleaved", 6, 2, (0, 1, 0, 1, 0, 1)),
        ("zb_v", 6, 3, (0, 1, 2, 2, 1, 0)),
        ("1f1b", 6, 3, (0, 0, 1, 1, 2, 2)),
        ("1f1b", 5, 2, (0, 0, 0, 1, 1)),
    ],
)
def test_where_stages_are(name: str, stages: int, count: int, where: tuple[int, ...]) -> None:
    assert schedules.placement(name, stages, count) == where


@pytest.mark.parametrize("name", ["interleaved", "zb_v"])
def test_a_plan_gives_each_task_two_stages(name: str) -> None:
    plan = PipelinePlan(("worker:0", "worker:1"), schedule=name)
    assert plan.num_stages == 4
    assert plan.placement == schedules.placement(name, 4, 2)
    assert plan.slots() == schedules.schedule(name, 4, 4)


def test_a_task_may_have_three_stages_in_turn() -> None:
    plan = PipelinePlan(("worker:0", "worker:1"), schedule="interleaved", stages=6)
    assert [plan.task_of(stage) for stage in range(6)] == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"schedule": "zb_v", "stages": 2}, "schedule='zb_v' with 2 stages on 2 tasks"),
        ({"schedule": "zb_v", "recompute": True}, "recompute=True with schedule='zb_v'"),
        ({"schedule": "interleaved", "stages": 3}, "2 tasks"),
    ],
)
def test_plans_that_do_not_fit_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(StrategyError, match=told):
        PipelinePlan(("worker:0", "worker:1"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("stages", [3, 5])
def test_a_v_on_three_tasks_has_six_stages(stages: int) -> None:
    with pytest.raises(StrategyError, match="give 6 stages, or leave `stages` out"):
        PipelinePlan(tuple("abc"), schedule="zb_v", stages=stages)


def test_one_stage_is_one_task() -> None:
    assert [s[1:] for s in schedules.schedule("interleaved", 1, 2)] == [
        (0, 0, "forward"),
        (0, 0, "backward"),
        (0, 1, "forward"),
        (0, 1, "backward"),
    ]


@pytest.mark.parametrize(
    ("name", "stages", "count", "told"),
    [
        ("interleaved", 5, 2, "5 stages on 2 tasks: give each task as many stages, 2, 4 or 6"),
        ("interleaved", 5, 3, "5 stages on 3 tasks: give each task as many stages, 3, 6 or 9"),
        ("interleaved", 4, 0, "tasks=0: give a number of at least 1"),
        ("zb_v", 3, None, "3 stages: give two for each task"),
    ],
)
def test_stages_that_do_not_divide_are_refused(
    name: str, stages: int, count: int | None, told: str
) -> None:
    with pytest.raises(StrategyError, match=told):
        schedules.schedule(name, stages, 2, count)


def test_a_drawing_has_a_row_for_each_task() -> None:
    heading, *lines = draw("interleaved", 4, 4).splitlines()
    assert heading == "interleaved, bubble 11 %"
    assert [line[:6] for line in lines] == ["task 0", "task 1"]


def test_a_drawing_of_three_stages_a_task() -> None:
    assert "F0c" in draw("interleaved", 6, 4, tasks=2)


def test_a_measured_step_is_drawn_by_task_too() -> None:
    slots = schedules.schedule("interleaved", 4, 4)
    timings = Timings.planned(slots, schedules.placement("interleaved", 4, 2))
    assert timings.rows == (0, 1, 0, 1)
    assert timings.bubble == pytest.approx(1 / 9)
    assert [line[:6] for line in draw(timings).splitlines()[1:]] == ["task 0", "task 1"]
