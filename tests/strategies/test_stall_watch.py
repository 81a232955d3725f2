"""A process that does not move names what it waits for, and does not wait for ever."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tfdist import exits, log
from tfdist.cluster import Task
from tfdist.cluster.address import Address
from tfdist.errors import TaskLost
from tfdist.machine import standstill
from tfdist.rendezvous.in_touch import Standing
from tfdist.strategies import own_code, stall_watch, step_clock
from tfdist.strategies.stall_watch import StallWatch

QUIET = 0.2


class Touch:
    """What other workers have told."""

    def __init__(self, *others: Standing, late: tuple[str, ...] = ()) -> None:
        self.others = list(others)
        self.late = list(late)
        self.told: list[Standing | None] = []
        self.last_words: dict[str, str] = {}
        self.died: list[str] = []
        self.quiet: list[tuple[str, float]] = []
        self.port = 1

    def stand(self, standing: Standing | None) -> None:
        self.told.append(standing)

    def standing(self) -> list[Standing]:
        return self.others

    def silent(self, longest: float) -> list[tuple[str, float]]:
        return self.quiet

    def address(self, task: str) -> Address:
        return Address("127.0.0.1", self.port)

    def absent(self) -> list[str]:
        return [*self.last_words, *self.died]

    def ended(self) -> dict[str, str]:
        return self.last_words

    def not_here_yet(self) -> list[str]:
        return self.late


class Membership:
    def __init__(self, silent: list[tuple[Task, float]], absent: list[Task]) -> None:
        self._silent, self._absent = silent, absent
        self.tasks = [Task("chief", 0), Task("worker", 0), Task("worker", 1), Task("ps", 0)]
        self.asked = 0

    def silent(self, longest: float) -> list[tuple[Task, float]]:
        return [one for one in self._silent if one[1] > longest]

    def absent(self) -> list[Task]:
        return self._absent

    def ask_for_stacks(self) -> None:
        self.asked += 1


CALLBACK = Standing("worker:1", "in its callbacks", True, " (train.py, line 41, in fit)", 41.0)
STEPS = Standing("worker:1", "in its train steps", False, "", 41.0)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    lines: list[str] = []
    monkeypatch.setenv("TFDIST_LOG_FOLDER", str(tmp_path))
    monkeypatch.setattr(log, "warning", lambda text, *values: lines.append(text % values))
    return lines


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    errors: list[BaseException] = []
    monkeypatch.setattr(exits, "end_by", errors.append)
    return errors


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StallWatch]]:
    made: list[StallWatch] = []
    # What a thread that sleeps in a test is to be taken for.
    monkeypatch.setattr(own_code, "is_in_tensorflow", lambda frame: True)

    def begin(
        touch: Any = None, membership: Any = None, limit: float = 60.0, quiet: float = QUIET
    ) -> StallWatch:
        one = StallWatch("worker:0", touch, membership, limit, quiet)
        monkeypatch.setattr(stall_watch, "_watch", one)
        one.start()
        made.append(one)
        return one

    yield begin
    for one in made:
        one.end()


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_worker_that_stands_elsewhere_is_named_with_its_place(
    said: list[str], watch: Any, tmp_path: Path
) -> None:
    touch = Touch(CALLBACK)
    watch(touch)
    with stall_watch.call("fit"):
        stall_watch.note("in its train steps")
        until(lambda: said)
        time.sleep(3 * QUIET)
    (line,) = said  # once
    stacks = tmp_path / "worker-0.stacks.txt"
    assert line == (
        "worker:0 is in its train steps for 0 s: it waits for worker:1, which is in its callbacks "
        f"for 41 s (train.py, line 41, in fit) (Python stacks: {stacks})"
    )
    assert "in until" in stacks.read_text()
    told = next(one for one in touch.told if one is not None)
    assert (told.task, told.phase, told.alone) == ("worker:0", "in its train steps", False)
    assert QUIET <= told.seconds < 10


def test_the_one_that_is_waited_for_blames_nobody(said: list[str], watch: Any) -> None:
    watch(Touch(STEPS))
    stall_watch.note("in its callbacks", alone=True)
    until(lambda: said)
    assert re.match(
        r"worker:0 is in its callbacks for 0 s: the others wait for it "
        r"\(test_stall_watch.py, line \d+, in until\) \(Python stacks: ",
        said[0],
    )


def test_workers_that_all_wait_are_not_blamed(said: list[str], watch: Any) -> None:
    watch(Touch(STEPS))
    stall_watch.note("in its train steps")
    time.sleep(4 * QUIET)
    assert said == []


def test_a_worker_that_has_not_come_is_named(said: list[str], watch: Any) -> None:
    watch(Touch(late=("worker:1",)))
    with stall_watch.call("fit"):
        until(lambda: said)
    assert "worker:0 is in fit for 0 s: it waits for worker:1, which has not called it" in said[0]


def test_a_call_that_moves_says_nothing(said: list[str], watch: Any) -> None:
    touch = Touch(CALLBACK)
    watch(touch, quiet=5 * QUIET)
    for _ in range(20):
        stall_watch.note("in its train steps")
        time.sleep(QUIET / 2)
    assert said == []
    assert set(touch.told) == {None}


def test_steps_that_move_inside_of_a_graph_say_nothing(
    said: list[str], watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_clock, "ticks", lambda: 2 * int(time.monotonic() / 0.01))
    watch(Touch(CALLBACK))
    stall_watch.note("in its train steps")
    time.sleep(5 * QUIET)
    assert said == []


def test_a_step_that_waits_for_its_batch_is_in_the_input_pipeline(
    said: list[str], watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_clock, "ticks", lambda: 7)
    monkeypatch.setattr(own_code, "called_from_graphs", lambda besides: [" (train.py, line 3)"])
    touch = Touch(STEPS)
    watch(touch)
    stall_watch.note("in its train steps")
    until(lambda: said)
    assert said[0].startswith("worker:0 is in the input pipeline for 0 s: the others wait for it")
    assert next(one for one in touch.told if one).where == " (train.py, line 3)"


def test_silent_and_lost_servers_are_named_and_end_the_process_at_the_limit(
    said: list[str], ended: list[BaseException], watch: Any
) -> None:
    servers = Membership([(Task("ps", 0), 12.0)], [Task("worker", 1)])
    watch(None, servers, limit=3 * QUIET)
    with stall_watch.call("fit"):
        until(lambda: ended)
    assert said[0].startswith(
        "worker:0 is in fit for 0 s: it waits for ps:0, which has said nothing for 12 s (its "
        "process is stopped, or its host cannot be reached); it waits for worker:1, which has gone"
    )
    assert servers.asked == 1
    assert isinstance(ended[0], TaskLost)
    assert "would be for ever: it waits for ps:0, which has said nothing for 12 s" in str(ended[0])


def test_a_worker_that_has_gone_and_a_callback_that_takes_long_end_nothing(
    said: list[str],
    ended: list[BaseException],
    watch: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = watch(None, Membership([], [Task("worker", 1)]), limit=QUIET)
    stall_watch.note("in its train steps")
    until(lambda: said)
    time.sleep(4 * QUIET)
    one.end()
    monkeypatch.setattr(own_code, "is_in_tensorflow", lambda frame: False)
    watch(None, Membership([(Task("ps", 0), 12.0)], []), limit=QUIET)
    stall_watch.note("in its callbacks", alone=True)
    time.sleep(6 * QUIET)
    assert ended == []


def test_a_worker_that_has_ended_well_ends_nobody_and_one_that_has_died_does(
    said: list[str], ended: list[BaseException], watch: Any
) -> None:
    touch = Touch()
    touch.last_words = {"worker:1": ""}
    watch(touch, limit=2 * QUIET)
    time.sleep(6 * QUIET)  # in its own program
    assert (said, ended) == ([], [])
    with stall_watch.call("fit"):
        until(lambda: said)
        time.sleep(4 * QUIET)
        assert "it waits for worker:1, whose program has ended well" in said[0]
        assert ended == []
        touch.died = ["worker:2"]
        until(lambda: ended)
    assert "it waits for worker:2, which has gone" in str(ended[0])


def test_a_worker_whose_python_alone_is_silent_is_not_given_up(
    said: list[str], ended: list[BaseException], watch: Any
) -> None:
    touch = Touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_answer_all, args=(server,), daemon=True).start()
        touch.port = server.getsockname()[1]
        touch.quiet = [("worker:1", 1.0)]
        watch(touch, limit=2 * QUIET)
        with stall_watch.call("fit"):
            until(lambda: said)
            time.sleep(6 * QUIET)
            assert "it waits for worker:1, which has said nothing for 1 s" in said[0]
            assert ended == []
            touch.port = 1  # where nobody answers
            until(lambda: ended)
        server.shutdown(socket.SHUT_RDWR)


def test_what_takes_long_to_find_out_does_not_have_the_count_begin_anew(
    ended: list[BaseException], watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(servers: object) -> set[Address]:
        time.sleep(0.5)  # nobody answers, and a name server does not, either
        return set()

    monkeypatch.setattr(standstill, "_PAUSE_SECONDS", 0.4)
    monkeypatch.setattr(standstill, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(standstill, "_clock", None)
    monkeypatch.setattr(stall_watch, "which_answer", ask)
    touch = Touch()
    touch.quiet = [("worker:1", 1.0), ("worker:2", 1.0)]
    watch(touch, limit=1.0)
    with stall_watch.call("fit"):
        until(lambda: ended)
    assert "for worker:1, which has said nothing" in str(ended[0])
    assert "for worker:2, which has said nothing" in str(ended[0])


def _answer_all(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            with server.accept()[0] as one:
                one.recv(100)
                one.sendall(b"x")


def test_a_long_step_of_servers_that_answer_ends_nothing(
    said: list[str], ended: list[BaseException], watch: Any
) -> None:
    watch(None, Membership([], []), limit=QUIET)
    stall_watch.note("in its train steps")
    time.sleep(5 * QUIET)
    assert (said, ended) == ([], [])


def test_a_long_step_is_not_held_against_who_has_just_become_silent(
    said: list[str], ended: list[BaseException], watch: Any
) -> None:
    servers = Membership([], [])
    watch(None, servers, limit=6 * QUIET)
    stall_watch.note("in its train steps")
    time.sleep(7 * QUIET)
    servers._silent = [(Task("ps", 0), 0.5)]
    time.sleep(2 * QUIET)
    assert said
    assert ended == []


def test_the_place_is_that_of_the_users_own_code() -> None:
    found = []

    def on_epoch_end() -> None:
        found.append(own_code.place_of(sys._current_frames()[threading.get_ident()]))

    on_epoch_end()
    assert found[0].startswith(" (test_stall_watch.py, line ")
    assert found[0].endswith(", in on_epoch_end)")
