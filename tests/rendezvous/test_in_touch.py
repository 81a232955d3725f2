"""Tasks in step know of each other who stands where, who is silent and who has gone."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tfdist.cluster import Cluster, Task
from tfdist.cluster.address import Address
from tfdist.machine import standstill
from tfdist.rendezvous import in_touch
from tfdist.rendezvous.in_touch import InTouch, Standing
from tfdist.rendezvous.messages import Connection, Gone, Message

CLUSTER = Cluster({"worker": ("a:1", "b:1", "c:1")})
WORKERS = [Task("worker", number) for number in range(3)]


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[InTouch]]:
    monkeypatch.setattr(in_touch, "_BEAT_SECONDS", 0.05)
    ends = {task: _pair() for task in WORKERS[1:]}
    all_ = [InTouch(CLUSTER.with_task(WORKERS[0]), {t: mine for t, (mine, _) in ends.items()})]
    for task, (_, theirs) in ends.items():
        all_.append(InTouch(CLUSTER.with_task(task), {WORKERS[0]: theirs}))
    yield all_
    for one in reversed(all_):
        one.close("")


def _pair() -> tuple[Connection, Connection]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return Connection(server.accept()[0]), Connection(client)


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_all_hear_where_one_stands_still(three: list[InTouch]) -> None:
    standing = Standing("worker:1", "in its callbacks", True, " (train.py, line 3)", 7.0)
    three[1].stand(standing)
    until(lambda: three[0].standing() and three[2].standing())
    assert three[0].standing() == three[2].standing() == [standing]
    assert three[1].standing() == []
    three[1].stand(None)
    until(lambda: not three[0].standing() and not three[2].standing())


def test_who_has_not_begun_a_call_is_known(three: list[InTouch]) -> None:
    three[0].begin_call()
    three[2].begin_call()
    until(lambda: three[2].not_here_yet() == ["worker:1"])
    until(lambda: three[0].not_here_yet() == ["worker:1"])
    three[1].begin_call()
    until(lambda: not three[2].not_here_yet() and not three[0].not_here_yet())


def test_all_hear_how_one_has_ended(three: list[InTouch]) -> None:
    three[2].close("ValueError: no")
    until(lambda: three[1].ended() and three[1].absent())
    assert three[1].ended() == three[0].ended() == {"worker:2": "ValueError: no"}
    assert three[1].absent() == three[0].absent() == ["worker:2"]


def test_a_last_word_that_comes_just_after_a_beat_is_said(
    three: list[InTouch], monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = three[2]._speak

    def beat_and_end(now: float) -> None:
        beat(now)
        three[2]._ended["worker:2"] = "ValueError: no"  # as `close` does, in another thread
        three[2]._closing = True

    monkeypatch.setattr(three[2], "_speak", beat_and_end)
    until(lambda: three[1].ended() == {"worker:2": "ValueError: no"})


def test_who_has_died_without_a_word_has_gone(three: list[InTouch]) -> None:
    (connection,) = three[2]._connections.values()
    connection.socket.shutdown(socket.SHUT_RDWR)
    until(lambda: three[1].absent() == ["worker:2"])
    assert three[0].ended() == {}


def test_a_silent_task_is_named_on_all_and_the_chief_by_all(
    three: list[InTouch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(three[2], "_speak", lambda now: None)
    until(lambda: [name for name, _ in three[0].silent(0.5)] == ["worker:2"])
    until(lambda: "worker:2" in dict(three[1].silent(0.5)))
    monkeypatch.setattr(three[0], "_speak", lambda now: None)
    until(lambda: "worker:0" in dict(three[1].silent(0.5)))


def test_a_chief_that_was_stopped_itself_blames_nobody(
    three: list[InTouch], monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in three[1:]:
        monkeypatch.setattr(one, "_speak", lambda now: None)
    until(lambda: len(three[0].silent(0.5)) == 2)
    standstill._times += 1  # as its clock notes after a SIGSTOP and a SIGCONT
    three[0].begin_call()  # wakes it
    until(lambda: three[0].silent(0.5) == [])
    until(lambda: len(three[0].silent(0.5)) == 2)  # the silence is counted from then on


def test_the_chiefs_own_end_is_the_last_that_is_heard(three: list[InTouch]) -> None:
    three[0].close("ValueError: no")
    until(lambda: three[1].absent() == ["worker:0"] and three[2].absent() == ["worker:0"])
    assert three[1].ended() == three[2].ended() == {"worker:0": "ValueError: no"}


def test_who_was_lost_while_it_was_spoken_to_has_gone(
    three: list[InTouch], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(message: Message) -> None:
        raise Gone

    monkeypatch.setattr(three[0]._connections["worker:2"], "send", lost)
    until(lambda: three[1].absent() == ["worker:2"])


def test_a_word_of_another_kind_is_no_news(three: list[InTouch]) -> None:
    (connection,) = three[1]._connections.values()
    connection.send({"say": "here", "round": 1})
    three[1].begin_call()
    three[2].begin_call()
    three[0].begin_call()
    until(lambda: three[0]._begun == {"worker:1": 1, "worker:2": 1})
    assert three[0].absent() == []


def test_a_word_of_a_wrong_form_ends_the_connection(three: list[InTouch]) -> None:
    (connection,) = three[1]._connections.values()
    connection.send({"say": "touch", "calls": 1, "standing": [["worker:1"]], "ended": {}})
    until(lambda: three[0].absent() == ["worker:1"] and three[2].absent() == ["worker:1"])


def test_where_one_stands_is_said_in_words() -> None:
    standing = Standing("worker:1", "in its callbacks", True, " (train.py, line 3)", 7.4)
    assert str(standing) == "worker:1, which is in its callbacks for 7 s (train.py, line 3)"


def test_tensorflows_address_of_a_task_is_the_clusters(three: list[InTouch]) -> None:
    assert three[0].address("worker:1") == Address("b", 1)


def test_a_forked_child_says_no_last_word_and_holds_no_connection(three: list[InTouch]) -> None:
    ours = [one.socket for touch in three for one in touch._connections.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: so it is
        child = os.fork()
    if child == 0:
        code = 1
        try:
            three[1].close("ValueError: of a data loader")
            code = 0 if all(one.fileno() == -1 for one in ours) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    three[1].begin_call()
    until(lambda: three[0]._begun.get("worker:1") == 1)
    assert three[0].ended() == {}
    assert three[0].absent() == []
