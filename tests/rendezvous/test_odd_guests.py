"""Who comes to the chief's address and behaves as no task of tfdist does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rendezvous.meeting import a_cluster, come
from tests.rendezvous.odd_guests import (
    finish,
    guest,
    heard,
    hello,
    ignored,
    is_closed,
    own_name,
)
from tests.rendezvous.test_membership import Waiting, door, met, until
from tfdist.errors import RendezvousTimeout
from tfdist.rendezvous import coordinator, membership
from tfdist.rendezvous.messages import Connection, Gone, Message

pytestmark = pytest.mark.timeout(40)

NO_HELLO: list[tuple[dict[str, Any], str]] = [
    ({"say": "dance"}, "a message that is no hello"),
    ({"say": "hello", "task": 3}, "a message that is no hello"),
]


@pytest.mark.parametrize(("message", "what"), NO_HELLO)
def test_a_message_that_is_no_hello_is_a_strangers(message: dict[str, Any], what: str) -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        with guest(cluster) as odd:
            odd.send(message)
            until(lambda: is_closed(odd))
        finish(cluster, chief, "worker:1")
    assert ignored(chief, what)
    with met() as (cluster, chief, _), guest(cluster) as odd:
        odd.send(message)
        until(lambda: is_closed(odd))
        assert ignored(chief, what)


def test_a_task_that_the_cluster_does_not_have_is_a_stranger() -> None:
    what = "a task 'worker:7' that the cluster does not have"
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        with guest(cluster) as odd:
            odd.send(hello(cluster, "worker:7"))
            until(lambda: is_closed(odd))
        finish(cluster, chief, "worker:1")
    assert ignored(chief, what)
    with met() as (cluster, chief, _), guest(cluster) as odd:
        odd.send(hello(cluster, "worker:7"))
        until(lambda: is_closed(odd))
        assert ignored(chief, what)


def test_a_task_that_connects_again_has_its_new_connection() -> None:
    with a_cluster(3) as cluster:
        chief = come(cluster, "worker:0")
        with guest(cluster) as first, guest(cluster) as second:
            first.send(hello(cluster, "worker:1"))
            assert heard(first)["missing"] == ["worker:2"]
            second.send(hello(cluster, "worker:1"))
            until(lambda: is_closed(first))
            assert heard(second)["missing"] == ["worker:2"]
        finish(cluster, chief, "worker:1", "worker:2")


def test_who_speaks_with_the_chiefs_own_words_is_a_stranger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens: list[str] = []
    run = coordinator.Coordinator.run

    def noting(chief: coordinator.Coordinator) -> int:
        tokens.append(chief.handshake.token)
        return run(chief)

    monkeypatch.setattr(coordinator.Coordinator, "run", noting)
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        with guest(cluster) as echo:
            echo.send(hello(cluster, "worker:0", tokens[0]))
            until(lambda: is_closed(echo))
        finish(cluster, chief, "worker:1")
    assert ignored(chief, "the chief's own word")


def test_a_task_that_connects_again_when_all_are_here_must_answer_again() -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        with guest(cluster) as first, guest(cluster) as second:
            first.send(hello(cluster, "worker:1"))
            until(lambda: heard(first)["missing"] == [])  # all are here, and are asked
            second.send(hello(cluster, "worker:1"))
            asked = heard(second)
            until(lambda: is_closed(first))
            assert chief.outcome is None
            second.send({"say": "here", "round": asked["round"]})
            while (said := heard(second))["say"] != "go":
                second.send({"say": "here", "round": said["round"]})
        assert chief.join().agreement.seed == said["seed"]


def test_too_few_open_files_for_all_tasks_are_told_before_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: (64, 64))
    monkeypatch.setattr("resource.setrlimit", lambda which, limits: None)
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        finish(cluster, chief, "worker:1")
    assert chief.log[0] == (
        "this process may have 64 files and connections open, and needs 202: raise the limit "
        "(ulimit -Hn 202) where it is started"
    )


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Peers that are lost as one whose host is gone: it is learnt by what is sent."""
    peers: set[str] = set()
    flush = Connection.flush

    def flushing(connection: Connection) -> bool:
        if connection.peer in peers:
            raise Gone
        return flush(connection)

    monkeypatch.setattr(Connection, "flush", flushing)
    return peers


def test_a_task_that_is_lost_while_it_is_spoken_to_is_missing_again(lost: set[str]) -> None:
    with a_cluster(3) as cluster:
        chief = come(cluster, "worker:0")
        with guest(cluster) as first:
            first.send(hello(cluster, "worker:1"))
            assert heard(first)["missing"] == ["worker:2"]
            lost.add(own_name(first))
            until(lambda: is_closed(first))
        finish(cluster, chief, "worker:1", "worker:2")


def test_a_task_that_is_lost_after_the_last_word_is_not_waited_for(
    lost: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Connection.send

    def sending(connection: Connection, message: Message) -> None:
        send(connection, message)
        if message["say"] == "stop":
            lost.add(connection.peer)

    monkeypatch.setattr(Connection, "send", sending)
    with a_cluster(3) as cluster:
        chief = come(cluster, "worker:0", timeout=0.5)
        with guest(cluster) as first:
            first.send(hello(cluster, "worker:1"))
            assert "worker:2" in chief.join().failed(RendezvousTimeout)
            assert lost == {own_name(first)}


def test_who_says_nothing_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "SILENCE", 0.3)
    monkeypatch.setattr(membership, "_SILENCE", 0.3)
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        with guest(cluster, silent=True) as silent:
            until(lambda: is_closed(silent))
        monkeypatch.setattr(coordinator, "SILENCE", 10.0)
        finish(cluster, chief, "worker:1")
    with met() as (cluster, _, _), guest(cluster, silent=True) as silent:
        until(lambda: is_closed(silent))


def test_of_too_many_guests_the_first_has_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "_MAX_GUESTS", 0)  # beside the one that is missing
    monkeypatch.setattr(membership, "_MAX_GUESTS", 1)
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        with guest(cluster, silent=True) as first, guest(cluster, silent=True):
            until(lambda: is_closed(first))
        finish(cluster, chief, "worker:1")
    with (
        met() as (cluster, _, _),
        guest(cluster, silent=True) as first,
        guest(cluster, silent=True) as second,
    ):
        until(lambda: is_closed(first))
        assert not is_closed(second)


def test_who_claims_to_be_the_chief_after_the_start_is_refused() -> None:
    with met() as (cluster, chief, _), guest(cluster) as impostor:
        impostor.send(hello(cluster, "chief:0"))
        said = heard(impostor)
        assert (said["say"], said["error"]) == ("stop", "mismatch")
        assert said["text"].startswith("two processes claim to be chief:0: process ")
        assert f"refused: {said['text']}" in chief.log


def test_a_second_claim_of_a_place_is_refused_while_the_first_is_looked_into() -> None:
    with met() as (cluster, _, _), guest(cluster) as first, guest(cluster) as second:
        first.send(hello(cluster, "worker:1", "one"))
        assert heard(first)["say"] == "status"  # it has to wait: worker:1 may live
        second.send(hello(cluster, "worker:1", "another"))
        said = heard(second)
        assert said["say"] == "stop"
        assert said["text"].startswith("two processes claim to be worker:1: process ")


def test_guests_are_let_go_of_when_the_job_ends() -> None:
    with met() as (cluster, _, agreements), guest(cluster) as late:
        waiting = [Waiting(agreements[task]) for task in ("worker:0", "worker:1", "ps:0")]
        until(lambda: door(agreements)._guests)
        door(agreements).close(well=True)
        assert [one.join() for one in waiting] == [None, None, None]
        assert is_closed(late)
