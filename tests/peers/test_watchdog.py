"""The watchdog says that nothing moves: after a while, again at twice, and not after a move."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tfdist import log
from tfdist.training.peers.watchdog import Watchdog

SHORT = 0.2
"""Seconds that are unusual here."""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings; nothing of an earlier test goes on watching."""
    until(lambda: watching() == [])
    lines: list[str] = []

    def warning(text: str, *values: Any) -> None:
        lines.append(text % values)

    monkeypatch.setattr(log, "warning", warning)
    return lines


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def seconds_in(line: str) -> int:
    found = re.search(r"nothing has moved for (\d+) s; ", line)
    assert found is not None, line
    return int(found[1])


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tfdist-stall"]


def test_nothing_is_said_before_the_time(said: list[str]) -> None:
    with Watchdog("fit", 60.0):
        assert len(watching()) == 1
        time.sleep(2 * SHORT)
    assert said == []


def test_what_is_waited_for_is_said_after_the_time(said: list[str]) -> None:
    began = time.monotonic()
    with Watchdog("worker:1 in epoch 3", SHORT):
        until(lambda: said)
    assert time.monotonic() - began >= SHORT
    assert said[0] == (
        "worker:1 in epoch 3: nothing has moved for 0 s; if this is not expected (a large model is "
        "being traced, a slow callback runs), another task of the job hangs, of which its log may "
        "say nothing: `py-spy dump --pid` shows where"
    )


def test_the_seconds_are_those_since_the_last_move(said: list[str]) -> None:
    with Watchdog("fit", 1.0):
        until(lambda: said)
    assert seconds_in(said[0]) >= 1


def test_it_is_said_again_at_twice_the_time_and_at_twice_that(said: list[str]) -> None:
    times: list[float] = []
    began = time.monotonic()

    def why() -> str:
        times.append(time.monotonic() - began)
        return "why"

    with Watchdog("fit", SHORT, why=why):
        until(lambda: len(times) == 3)
    assert times[0] >= SHORT
    assert times[1] >= 2 * SHORT
    assert times[2] >= 4 * SHORT
    assert len(said) == 3


def test_why_is_asked_when_it_is_said(said: list[str]) -> None:
    reasons = iter(["worker:2 is late", "worker:2 has gone"])
    with Watchdog("fit", SHORT, why=lambda: next(reasons, "")):
        until(lambda: len(said) == 2)
    assert said[0].endswith("; worker:2 is late")
    assert said[1].endswith("; worker:2 has gone")


def test_who_moves_is_left_alone(said: list[str]) -> None:
    """Moves every tenth of the time, of which a busy machine may well take ten to pass."""
    with Watchdog("fit", 10 * SHORT) as watchdog:
        for _ in range(30):
            time.sleep(SHORT / 2)
            watchdog.moved()
    assert said == []


def test_after_a_move_the_time_is_the_first_one_again(said: list[str]) -> None:
    asked: list[float] = []

    def why() -> str:
        asked.append(time.monotonic())
        return ""

    with Watchdog("fit", SHORT, why=why) as watchdog:
        until(lambda: len(asked) == 2)  # the next would come after four times
        moved = time.monotonic()
        watchdog.moved()
        assert watchdog._next == SHORT
        until(lambda: len(asked) == 3)
        assert asked[2] - moved >= SHORT


def test_one_that_is_not_active_watches_nothing(said: list[str]) -> None:
    with Watchdog("fit", SHORT, active=False):
        assert watching() == []
        time.sleep(2 * SHORT)
    assert said == []


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_it_ends_with_its_block(error: type[Exception] | None, said: list[str]) -> None:
    try:
        with Watchdog("fit", SHORT):
            assert len(watching()) == 1
            if error is not None:
                raise error
    except ZeroDivisionError:
        pass
    until(lambda: watching() == [])
    told = len(said)
    time.sleep(2 * SHORT)
    assert len(said) == told
