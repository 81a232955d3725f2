"""Tasks in step tell each other of their GPUs, and agree on how they hold them."""

from __future__ import annotations

import pytest

from tests.rendezvous.meeting import a_cluster, come, together
from tfdist.errors import RendezvousMismatch
from tfdist.rendezvous.cards import Holding, difference_of, holding_of


@pytest.mark.parametrize(
    ("cards", "holding"),
    [
        ([], "none"),
        ([None, None], "none"),
        ([(), ()], "none"),
        ([("GPU-1",), None], "none"),
        ([("GPU-1",), ()], "none"),
        ([("GPU-1",), ("GPU-2",)], "own"),
        ([("GPU-1", "GPU-2"), ("GPU-3", "GPU-4")], "own"),
        ([("a/0",), ("b/0",)], "own"),
        ([("GPU-1",), ("GPU-1",)], "shared"),
        ([("GPU-1", "GPU-1")], "shared"),  # cut into logical devices
        ([("MIG-1",), ("MIG-1",)], "shared"),
        ([("MIG-1",), ("MIG-2",)], "slices"),
        ([("GPU-1",), ("MIG-2",)], "slices"),
    ],
)
def test_how_tasks_hold_their_gpus(cards: list[tuple[str, ...] | None], holding: Holding) -> None:
    assert holding_of(cards) == holding


def test_all_tasks_hear_how_they_hold_them() -> None:
    with a_cluster() as cluster:
        tasks = [
            come(cluster, f"worker:{n}", in_step=True, cards=(f"GPU-{n % 2}",)) for n in range(3)
        ]
        assert [one.join().agreement.holding for one in tasks] == ["shared"] * 3


def test_tasks_that_do_not_tell_hold_none() -> None:
    with a_cluster(2) as cluster:
        one, two = together(cluster, ["worker:0", "worker:1"])
    assert one.agreement.holding == two.agreement.holding == "none"


def test_a_task_alone_knows_by_itself() -> None:
    with a_cluster(1) as cluster:
        (alone,) = together(cluster, ["worker:0"], cards=("GPU-1", "GPU-2"))
    assert alone.agreement.holding == "own"


def test_workers_of_different_numbers_of_gpus_are_refused_before_they_wait() -> None:
    with a_cluster(2) as cluster:
        tasks = [
            come(cluster, "worker:0", cards=("GPU-1",)),
            come(cluster, "worker:1", cards=()),
        ]
        for one in tasks:
            said = one.join().failed(RendezvousMismatch)
            assert "computes on no GPU, worker:0 on 1 GPU; give every worker in step" in said


def test_as_many_gpus_are_no_difference() -> None:
    assert difference_of("b", ("GPU-1",), "a", ("GPU-2",)) is None
    assert difference_of("b", None, "a", ("GPU-2",)) is None
    assert difference_of("b", ("GPU-1",), "a", None) is None
    said = difference_of("b", ("GPU-1", "GPU-2"), "a", ("GPU-3",))
    assert said is not None
    assert said.startswith("b computes on 2 GPUs, a on 1 GPU; ")
