"""A step in which each worker updates its share of the weights alone."""

from __future__ import annotations

import dataclasses

import pytest

from tests.planning.plans import MB, memory, seen, speed
from tfdist.planning.shard_speed import ShardSpeed


def test_the_update_is_shared_and_the_exchange_is_not() -> None:
    one = ShardSpeed(speed(), seen()).step(2)
    assert one.strategy == "2 workers, shard_optimizer"
    assert one.compute == pytest.approx(0.05 - 0.008)  # a twelfth of the lone worker's 0.1 s
    assert one.update == pytest.approx(0.004)
    assert one.transfer == pytest.approx(0.01)
    assert one.rows == 100
    assert ShardSpeed(speed(), seen()).step(4).update == pytest.approx(0.002)


def test_no_update_is_longer_than_what_two_compute() -> None:
    one = ShardSpeed(speed(of_two=0.01), seen(update=0.5)).step(2)
    assert one.compute == 0.0
    assert one.update == pytest.approx(0.005)


def test_input_and_python_are_the_hosts() -> None:
    two = dataclasses.replace(speed().of_two, input=0.003, python=0.002)
    one = ShardSpeed(dataclasses.replace(speed(), of_two=two), seen()).step(2)
    assert one.host == pytest.approx(0.005)
    assert one.waiting == 0.0


def test_of_memory_the_slots_alone_are_shared() -> None:
    whole, shared = memory().workers(3), memory().sharded(3)
    assert shared.slots == -(-80 * MB // 3)
    assert (
        dataclasses.replace(
            shared, slots=whole.slots, strategy=whole.strategy, is_measured=whole.is_measured
        )
        == whole
    )
