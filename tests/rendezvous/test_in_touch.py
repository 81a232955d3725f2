"""Tasks in step know of each other who stands where, who is silent and who has gone."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tfdist.cluster import Cluster, Task
from tfdist.rendezvous import in_touch
from tfdist.rendezvous.in_touch import InTouch, Standing
from tfdist.rendezvous.messages import Connection

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
