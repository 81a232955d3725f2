"""Signals go to a handler for a while; those that are ignored stay so."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import pytest

from tfdist.machine.signals import caught, exit_by

BOTH = (signal.SIGUSR1, signal.SIGUSR2)


def test_signals_are_caught_until_the_end_of_the_block() -> None:
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    usual = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    ignored = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with caught(note, BOTH):
            for one in BOTH:
                signal.raise_signal(one)
        assert came == [signal.SIGUSR1]
        assert [signal.getsignal(one) for one in BOTH] == [signal.SIG_DFL, signal.SIG_IGN]
    finally:
        signal.signal(signal.SIGUSR1, usual)
        signal.signal(signal.SIGUSR2, ignored)


def test_in_another_thread_nothing_is_caught() -> None:
    handlers: list[object] = []

    def look() -> None:
        with caught(lambda number, frame: None, BOTH):
            handlers.extend(signal.getsignal(one) for one in BOTH)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(10)
    assert handlers == [signal.getsignal(one) for one in BOTH]


def test_a_process_that_is_sent_a_signal_ends_in_order_with_the_code_of_shells() -> None:
    with pytest.raises(SystemExit) as caught_exit, caught(exit_by, [signal.SIGUSR1]):
        signal.raise_signal(signal.SIGUSR1)
    assert caught_exit.value.code == 128 + signal.SIGUSR1
