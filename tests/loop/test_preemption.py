"""A signal is noted while a training with a checkpoint runs, and never lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

import tfdist
from tfdist.training.loop.preemption import Preemption


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """What comes to the handler that was there before."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def preemption() -> Preemption:
    return Preemption(tfdist.strategy("one_device"))


def test_a_signal_is_noted_and_ends_the_training(heard: list[int]) -> None:
    asked = preemption()
    with pytest.raises(ZeroDivisionError), asked.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.asked_by == "SIGTERM"
        raise ZeroDivisionError
    assert heard == []


def test_a_signal_that_comes_too_late_for_the_training_ends_what_comes_after(
    heard: list[int],
) -> None:
    with preemption().listening():
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == []
    assert heard == [signal.SIGTERM]


def test_a_users_own_signal_stays_the_users() -> None:
    numbers: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: numbers.append(number))
    try:
        with preemption().listening():
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert numbers == [signal.SIGUSR1]
