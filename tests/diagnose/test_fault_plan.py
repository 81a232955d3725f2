"""Faults are drawn from a seed, each kind in its turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdist.diagnose.fault_plan import FAULTS, Fault, draw_faults
from tfdist.errors import ClusterError

TASKS = ["worker:0", "worker:1"]


@given(rounds=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_a_seed_draws_the_same_faults_again_and_every_kind_takes_its_turn(
    rounds: int, seed: int
) -> None:
    faults = draw_faults(rounds, seed, TASKS)
    assert faults == draw_faults(rounds, seed, TASKS)
    assert len(faults) == rounds
    for turn in range(0, rounds - len(FAULTS) + 1, len(FAULTS)):
        assert {one.kind for one in faults[turn : turn + len(FAULTS)]} == set(FAULTS)
    for one in faults:
        assert 0 <= one.when <= 0.95
        assert (one.task == "launcher") == one.kind.endswith("-launcher")
        assert one.task in [*TASKS, "launcher"]


def test_another_seed_draws_others() -> None:
    assert draw_faults(10, 1, TASKS) != draw_faults(10, 2, TASKS)


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ClusterError, match="fault 'burn'; the faults are kill, kill-launcher"):
        Fault("burn", "worker:0", 0.5)
    with pytest.raises(ClusterError, match="a fault at 2 of a run"):
        Fault("kill", "worker:0", 2.0)
    with pytest.raises(ClusterError, match="without a task or without a fault"):
        draw_faults(1, 1, [])
