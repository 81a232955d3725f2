"""A call that does not move names what it waits for, and does not wait for ever."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tfdist import exits, log
from tfdist.cluster import Task
from tfdist.errors import TaskLost
from tfdist.training.peers.stall_watch import StallWatch, note, place_of

QUIET = 0.2


class Board:
    """As the workers' key-value store: what others have noted, and what this worker has."""

    def __init__(self, *others: tuple[str, str, bool, str]) -> None:
        self.others = [json.dumps([*other, 41.0, time.time()]) for other in others]
        self.noted: list[Any] = []

    def note_phase(self, text: str) -> None:
        self.noted.append(json.loads(text))

    def phases(self) -> list[str]:
        return self.others


class Membership:
    def __init__(self, silent: list[tuple[Task, float]], absent: list[Task]) -> None:
        self._silent, self._absent = silent, absent
        self.tasks = [Task("chief", 0), Task("worker", 0), Task("worker", 1), Task("ps", 0)]

    def silent(self, longest: float) -> list[tuple[Task, float]]:
        return [one for one in self._silent if one[1] > longest]

    def absent(self) -> list[Task]:
        return self._absent


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(log, "warning", lambda text, *values: lines.append(text % values))
    return lines


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    errors: list[BaseException] = []
    monkeypatch.setattr(exits, "end_by", errors.append)
    return errors


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def watch(board: Any = None, membership: Any = None, limit: float = 60.0) -> StallWatch:
    return StallWatch("worker:0", "fit", board, membership, limit, QUIET)


def test_a_worker_that_stands_elsewhere_is_named_with_its_place(said: list[str]) -> None:
    board = Board(("worker:1", "in its callbacks", True, " (train.py, line 41, in fit)"))
    with watch(board):
        note("in its train steps")
        until(lambda: said)
        time.sleep(3 * QUIET)
    (line,) = said  # once
    assert line == (
        "worker:0 is in its train steps for 0 s: it waits for worker:1, which is in its callbacks "
        "for 41 s (train.py, line 41, in fit)"
    )
    task, phase, alone, _, still, _ = board.noted[0]
    assert (task, phase, alone) == ("worker:0", "in its train steps", False)
    assert QUIET <= still < 10


def test_the_one_that_is_waited_for_blames_nobody(said: list[str]) -> None:
    with watch(Board(("worker:1", "in its train steps", False, ""))):
        note("in its callbacks", alone=True)
        until(lambda: said)
    assert re.match(
        r"worker:0 is in its callbacks for 0 s: the others wait for it "
        r"\(test_stall_watch.py, line \d+, in until\)$",
        said[0],
    )


def test_workers_that_all_wait_are_not_blamed(said: list[str]) -> None:
    with watch(Board(("worker:1", "in its train steps", False, ""))):
        note("in its train steps")
        time.sleep(4 * QUIET)
    assert said == []


def test_what_a_worker_has_noted_long_ago_blames_nobody(said: list[str]) -> None:
    board = Board()
    old = time.time() - 60
    board.others = [json.dumps(["worker:1", "in its callbacks", True, "", 9.0, old])]
    with watch(board):
        note("in its train steps")
        time.sleep(4 * QUIET)
    assert said == []


def test_a_call_that_moves_says_nothing(said: list[str]) -> None:
    board = Board(("worker:1", "in its callbacks", True, ""))
    with StallWatch("worker:0", "fit", board, None, 60.0, 5 * QUIET):  # type: ignore[arg-type]
        for _ in range(20):
            note("in its train steps")
            time.sleep(QUIET / 2)
    assert (said, board.noted) == ([], [])


def test_silent_and_lost_servers_are_named_and_end_the_process_at_the_limit(
    said: list[str], ended: list[BaseException]
) -> None:
    servers = Membership([(Task("ps", 0), 12.0)], [Task("worker", 1)])
    with watch(None, servers, limit=3 * QUIET):
        until(lambda: ended)
    assert said[0] == (
        "worker:0 is in fit for 0 s: it waits for ps:0, which has said nothing for 12 s (its "
        "process is stopped, or its host cannot be reached); it waits for worker:1, which has gone"
    )
    assert isinstance(ended[0], TaskLost)
    assert "would be for ever: it waits for ps:0, which has said nothing for 12 s" in str(ended[0])


def test_a_worker_that_has_gone_and_a_callback_that_takes_long_end_nothing(
    said: list[str], ended: list[BaseException]
) -> None:
    with watch(None, Membership([], [Task("worker", 1)]), limit=QUIET):
        note("in its train steps")
        until(lambda: said)
        time.sleep(4 * QUIET)
    with watch(None, Membership([(Task("ps", 0), 12.0)], []), limit=QUIET):
        note("in its callbacks", alone=True)
        time.sleep(6 * QUIET)
    assert ended == []


def test_a_long_step_of_servers_that_answer_ends_nothing(
    said: list[str], ended: list[BaseException]
) -> None:
    with watch(None, Membership([], []), limit=QUIET):
        time.sleep(5 * QUIET)
    assert (said, ended) == ([], [])


def test_the_place_is_that_of_the_users_own_code() -> None:
    found = []

    def on_epoch_end() -> None:
        found.append(place_of(sys._current_frames()[threading.get_ident()]))

    on_epoch_end()
    assert found[0].startswith(" (test_stall_watch.py, line ")
    assert found[0].endswith(", in on_epoch_end)")
