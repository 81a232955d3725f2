"""However chunks come back, no step misses more of others' than the bound says."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.training.parameter_server.staleness_bound import StalenessBound
from tfdist.training.parameter_server.staleness_count import StalenessCount


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 40),
    st.integers(1, 6),
    st.lists(st.tuples(st.booleans(), st.integers(0, 99)), max_size=60),
)
def test_no_chunk_is_beside_more_steps_than_the_bound(
    most: int, workers: int, events: list[tuple[bool, int]]
) -> None:
    bound = StalenessBound(most, workers)
    under_way: dict[int, int] = {}
    beside: dict[int, int] = {}
    for ends, choice in events:
        if ends and under_way:
            number = sorted(under_way)[choice % len(under_way)]
            bound.end([number])
            del under_way[number], beside[number]
            continue
        steps = bound.steps()
        assert steps is not None
        if not steps:
            assert under_way  # or nobody would ever go on
            continue
        for number in under_way:
            beside[number] += steps
        others = sum(under_way.values())
        number = bound.begin(steps)
        under_way[number], beside[number] = steps, others
        assert max(beside.values()) <= most


def test_without_a_bound_any_number_will_do() -> None:
    bound = StalenessBound(None, 2)
    bound.begin(1000)
    assert bound.steps() is None


def test_with_none_at_all_steps_are_taken_one_after_the_other() -> None:
    bound = StalenessBound(0, 3)
    assert bound.steps() == 1
    number = bound.begin(1)
    assert bound.steps() == 0
    bound.end([number])
    assert bound.steps() == 1


def test_equal_workers_are_never_held_up_by_a_bound_of_their_size() -> None:
    bound = StalenessBound(64, 4)
    queue = [bound.begin(bound.steps() or 0) for _ in range(8)]  # two chunks of each worker
    for _ in range(100):
        bound.end([queue.pop(0)])
        steps = bound.steps()
        assert steps == 4
        queue.append(bound.begin(steps))


def test_who_is_forgotten_holds_nobody_up() -> None:
    bound = StalenessBound(1, 2)
    numbers = {bound.begin(1), bound.begin(1)}
    assert bound.steps() == 0
    bound.end(numbers)
    assert bound.steps() == 1


@pytest.mark.parametrize("most", [3, 16, 1000])
def test_a_slow_one_stops_the_others_at_the_bound(most: int) -> None:
    bound = StalenessBound(most, 2)
    slow = bound.begin(bound.steps() or 0)
    taken = 0
    while steps := bound.steps():
        bound.end([bound.begin(steps)])
        taken += steps
    assert taken <= most < taken + max(1, most // 8)
    bound.end([slow])
    assert bound.steps()


def test_the_histogram_is_told_in_ranges_that_double() -> None:
    count = StalenessCount()
    assert (count.describe(), count.logs()) == ("", {})
    for missed in [0, 0, 0, 1, 3, 40, 1023, 5000]:
        count.note("/device:CPU:0", tf.constant(missed))
    assert count.describe() == (
        "of 8 updates 3 have missed no other, 1 one, 1 2 to 3, 1 32 to 63, 2 512 or more"
    )
    assert count.logs()["staleness_max"] == 1023
    count.begin()
    count.note("/device:CPU:0", tf.constant(2))
    assert count.logs() == {"staleness_mean": 2.0, "staleness_max": 2.0}
    assert int(np.argmax(count.histogram)) == 2
