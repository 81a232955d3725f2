"""Ways to train on paper: in step, with stragglers, in pipelines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scaling.numbers import links, patient, workers
from tfdist.errors import StrategyError
from tfdist.pipeline import SlotSeconds, simulate
from tfdist.scaling.in_step import InStep
from tfdist.scaling.link import Link
from tfdist.scaling.pipeline_replicas import PipelineReplicas
from tfdist.scaling.ring import Ring
from tfdist.scaling.sharded_update import ShardedUpdate
from tfdist.scaling.step_work import StepWork

WORK = StepWork(compute=0.3, size=1e8, update=0.05, other=0.02)
LINK = Link(1e-4, 1e9)
parts = st.floats(0, 10)
works = st.builds(StepWork, parts, st.floats(0, 1e9), parts, parts)


@patient
@given(works, links)
def test_one_worker_waits_for_nobody(work: StepWork, link: Link) -> None:
    assert InStep(Ring(link), slow_by=3.0).seconds(work, 1) == pytest.approx(work.alone)
    assert ShardedUpdate(Ring(link), slow_by=3.0).seconds(work, 1) == pytest.approx(work.alone)


def test_the_sum_comes_after_the_work() -> None:
    summed = Ring(LINK).seconds(4, 1e8)
    assert InStep(Ring(LINK)).seconds(WORK, 4) == pytest.approx(0.37 + summed)
    assert summed > 0.1


@patient
@given(works, links, workers, st.floats(0, 1), st.floats(0, 1))
def test_hiding_more_is_never_slower(
    work: StepWork, link: Link, n: int, x: float, y: float
) -> None:
    less, more = sorted((x, y))
    hidden = [InStep(Ring(link), hidden=share).seconds(work, n) for share in (less, more)]
    assert hidden[1] <= hidden[0]
    assert hidden[1] >= max(work.alone, work.alone - more * work.compute)


def test_what_computing_cannot_hide_is_waited_for() -> None:
    way = InStep(Ring(Link(0, 1e9)), hidden=0.5)
    assert way.seconds(StepWork(compute=1.0, size=4e9), 2) == pytest.approx(1 + 4 - 0.5)
    assert way.seconds(StepWork(compute=1.0, size=4e8), 2) == pytest.approx(1)
    shares = ShardedUpdate(Ring(Link(0, 1e9)), hidden=0.5)
    assert shares.seconds(StepWork(compute=1.0, size=4e9), 2) == pytest.approx(1 + 4 - 0.5)


@patient
@given(works, st.integers(2, 600), st.floats(1, 10))
def test_all_wait_for_the_slowest(work: StepWork, n: int, slow: float) -> None:
    even, uneven = (InStep(Ring(LINK), slow_by=s).seconds(work, n) for s in (1.0, slow))
    assert uneven - even == pytest.approx((slow - 1) * work.alone)
    even, uneven = (ShardedUpdate(Ring(LINK), 0.0, s).seconds(work, n) for s in (1.0, slow))
    own = work.compute + work.other + work.update / n
    assert uneven - even == pytest.approx((slow - 1) * own)


@patient
@given(works, links, workers, st.integers(1, 9))
def test_a_pipeline_of_one_task_is_the_ring(work: StepWork, link: Link, n: int, m: int) -> None:
    for schedule in ("1f1b", "zb_v"):
        way = PipelineReplicas(1, m, Ring(link), schedule)
        assert way.seconds(work, n) == pytest.approx(InStep(Ring(link)).seconds(work, n))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 5),
    st.integers(1, 12),
    st.sampled_from(["gpipe", "1f1b", "zero_bubble", "interleaved", "zb_v"]),
    st.floats(0, 0.1),
)
def test_one_replica_takes_what_its_schedule_does(
    k: int, m: int, schedule: str, hand_over: float
) -> None:
    way = PipelineReplicas(k, m, Ring(LINK), schedule, hand_over)
    each = 1.0 * k / way.stages / m / 3
    seconds = simulate(
        schedule, way.stages, m, SlotSeconds(each, each, each, hand_over), tasks=k
    ).seconds
    assert way.seconds(StepWork(compute=1.0, size=1e8), k) == pytest.approx(seconds)


@patient
@given(st.integers(1, 5), st.integers(1, 12))
def test_a_pipeline_never_beats_its_tasks(k: int, m: int) -> None:
    span = PipelineReplicas(k, m, Ring(LINK)).span(WORK)
    assert span == pytest.approx(0.3 * (m + k - 1) / m)


def test_each_stage_sums_its_part() -> None:
    way = PipelineReplicas(4, 8, Ring(LINK))
    found = way.seconds(WORK, 16)
    own = way.span(WORK) + 0.05 / 4 + 0.02
    assert found == pytest.approx(own + Ring(LINK).seconds(4, 1e8 / 4))


@pytest.mark.parametrize(
    ("settings_of", "said"),
    [
        ({"hidden": 1.5}, r"hidden=1.5: give a share of the computing, 0 to 1"),
        ({"slow_by": 0.5}, r"slow_by=0.5: give how many times as long, at least 1"),
        ({"slow_by": float("inf")}, r"slow_by=inf"),
    ],
)
def test_numbers_that_cannot_be_are_refused(settings_of: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        InStep(Ring(LINK), **settings_of)


def test_a_pipeline_that_cannot_be_is_refused() -> None:
    with pytest.raises(StrategyError, match="give one of"):
        PipelineReplicas(2, 4, Ring(LINK), "fifo")
    with pytest.raises(StrategyError, match="hand_over"):
        PipelineReplicas(2, 4, Ring(LINK), hand_over=-1.0)
    with pytest.raises(ValueError, match="6 workers for replicas of 4 tasks: give a multiple of 4"):
        PipelineReplicas(4, 8, Ring(LINK)).seconds(WORK, 6)
