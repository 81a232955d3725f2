"""Faults are drawn from a seed; kinds, moments and tasks each take their turn."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdist.diagnose.fault_plan import FAULTS, MOMENTS, Fault, draw_faults
from tfdist.errors import ClusterError

TASKS = ["worker:0", "worker:1"]
KINDS = list(FAULTS)


@given(rounds=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_a_seed_draws_the_same_faults_again_and_every_kind_takes_its_turn(
    rounds: int, seed: int
) -> None:
    faults = draw_faults(rounds, seed, TASKS, KINDS)
    assert faults == draw_faults(rounds, seed, TASKS, KINDS)
    assert len(faults) == rounds
    for turn in range(0, rounds - len(FAULTS) + 1, len(FAULTS)):
        assert {one.kind for one in faults[turn : turn + len(FAULTS)]} == set(FAULTS)
    for one in faults:
        assert 0 <= one.when <= 0.95
        assert 2 <= one.seconds <= 8
        assert one.task in TASKS


@given(seed=st.integers(0, 2**32))
def test_each_kind_strikes_at_each_moment_and_each_task(seed: int) -> None:
    faults = draw_faults(len(MOMENTS) * len(KINDS), seed, TASKS, KINDS)
    found = Counter((one.kind, one.moment) for one in faults)
    later = set(MOMENTS) - {"start-up", "tracing"}
    for kind in KINDS:
        struck = {moment for other, moment in found if other == kind}
        assert struck == (later if kind == "truncate" else set(MOMENTS))
        tasks = Counter(one.task for one in faults if one.kind == kind)
        assert set(tasks.values()) == {len(MOMENTS) // 2}


def test_only_moments_that_the_job_has_are_drawn() -> None:
    faults = draw_faults(20, 1, TASKS, ["kill", "truncate"], ["start-up", "mid-step"])
    assert {one.moment for one in faults if one.kind == "kill"} == {"start-up", "mid-step"}
    assert {one.moment for one in faults if one.kind == "truncate"} == {"mid-step"}
    assert draw_faults(1, 1, TASKS, ["truncate"], ["any time"])[0].moment == "any time"


def test_another_seed_draws_others() -> None:
    assert draw_faults(10, 1, TASKS, KINDS) != draw_faults(10, 2, TASKS, KINDS)


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ClusterError, match="fault 'burn'; the faults are kill, kill-launcher"):
        Fault("burn", "worker:0", "mid-step", 0.5)
    with pytest.raises(ClusterError, match="moment 'noon'; the moments are start-up, tracing"):
        Fault("kill", "worker:0", "noon", 0.5)
    with pytest.raises(ClusterError, match="a fault at 2 of a moment"):
        Fault("kill", "worker:0", "mid-step", 2.0)
    with pytest.raises(ClusterError, match="without a task or without a fault"):
        draw_faults(1, 1, [], KINDS)
