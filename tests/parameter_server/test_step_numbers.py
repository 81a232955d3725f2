"""Steps have numbers that only grow, and chunks under way have slots of their own."""

from __future__ import annotations

import pytest

from tfdist.training.parameter_server.step_numbers import StepNumbers


def test_no_two_steps_have_one_number() -> None:
    numbers = StepNumbers(3)
    seen: set[int] = {0}  # what servers begin with
    for steps in (1, 5, 3, 2):
        slot, first = numbers.take(steps)
        own = set(range(first, first + steps + 1))  # one for what is sent at the end
        assert not seen & own
        assert min(own) > max(seen)
        seen |= own
        numbers.give_back([slot])


def test_chunks_under_way_share_no_slot() -> None:
    numbers = StepNumbers(3)
    slots = [numbers.take(1)[0] for _ in range(3)]
    assert sorted(slots) == [0, 1, 2]
    assert not numbers.has_room
    with pytest.raises(RuntimeError, match="no slot is free"):
        numbers.take(1)
    numbers.give_back(slots[1:])
    assert {numbers.take(1)[0] for _ in range(2)} == set(slots[1:])


def test_there_is_a_slot_at_least() -> None:
    with pytest.raises(ValueError, match="0 slots"):
        StepNumbers(0)
