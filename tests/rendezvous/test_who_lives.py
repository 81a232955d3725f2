"""The chief of a job with servers asks each whether it lives, and knows who has not answered."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.rendezvous.meeting import come
from tests.rendezvous.odd_guests import guest, heard, hello, ignored, is_closed
from tests.rendezvous.test_membership import Waiting, door, met, names, until
from tfdist import log
from tfdist.cluster import Cluster
from tfdist.errors import RendezvousMismatch, TaskLost
from tfdist.machine import standstill
from tfdist.rendezvous import dropping, membership
from tfdist.rendezvous import session as session_of_a_server
from tfdist.rendezvous.agreement import Agreement

pytestmark = pytest.mark.timeout(40)

SERVERS = ("worker:0", "worker:1", "ps:0")


@pytest.fixture(autouse=True)
def _asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "_TICK", 0.05)
    monkeypatch.setattr(membership, "_TEND_SECONDS", 0.05)
    monkeypatch.setattr(membership, "_BEAT_SECONDS", 0.1)


def test_who_does_not_answer_is_known_with_its_silence() -> None:
    with met() as (_, _, agreements):
        waiting = [Waiting(agreements[task]) for task in ("worker:0", "ps:0")]  # these answer
        until(lambda: "worker:1" in dict(silent(agreements, 1.0)))
        found = silent(agreements, 0.9)
        assert [task for task, _ in found] == ["worker:1"]
        assert 0.9 < found[0][1] < 30
        assert silent(agreements, 60.0) == []
        door(agreements).close(well=True)
        assert [one.join() for one in waiting] == [None, None]


def silent(agreements: dict[str, Agreement], longest: float) -> list[tuple[str, float]]:
    return [(str(task), seconds) for task, seconds in door(agreements).silent(longest)]


def test_after_the_chief_itself_has_stood_still_nobody_counts_as_silent() -> None:
    with met() as (_, _, agreements):  # of whom none answers
        until(lambda: len(silent(agreements, 0.8)) == 3)
        standstill._times += 1  # as its clock notes after a SIGSTOP and a SIGCONT
        until(lambda: silent(agreements, 0.8) == [])
        until(lambda: len(silent(agreements, 0.8)) == 3)  # the silence is counted from then on


def test_a_silent_worker_is_dropped_and_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "_SHORTEST_SECONDS", 0.8)
    monkeypatch.setenv("TFDIST_STALL_TIMEOUT", "0.8")
    with met() as (cluster, chief, agreements):
        other = Waiting(agreements["worker:0"])
        until(lambda: names(door(agreements).absent()) == ["worker:1"], 20)
        until(lambda: any(line.startswith("worker:1 is dropped, as it says") for line in chief.log))
        assert "worker:1 is gone" not in chief.log  # one line for one event
        assert "ps:0" in names(door(agreements).present())  # nobody could do its work
        lost = Waiting(agreements["worker:1"]).join()
        assert isinstance(lost, TaskLost)
        assert "worker:1 has said nothing for too long; this one, worker:1, ends" in str(lost)
        back = Waiting(come(cluster, "worker:1", stay=True).join().agreement)
        until(lambda: not door(agreements).absent())
        door(agreements).close(well=True)
        assert [other.join(), back.join()] == [None, None]


def test_every_server_writes_where_it_stands_when_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDIST_LOG_FOLDER", str(tmp_path))
    with met() as (_, _, agreements):
        waiting = [Waiting(agreements[task]) for task in SERVERS]
        door(agreements).ask_for_stacks()
        wanted = ["ps-0.stacks.txt", "worker-0.stacks.txt", "worker-1.stacks.txt"]
        until(lambda: sorted(one.name for one in tmp_path.iterdir()) == wanted)
        time.sleep(0.3)  # some beats
        assert (tmp_path / "ps-0.stacks.txt").read_text().count("ps:0 at ") == 1  # asked once
        door(agreements).close(well=True)
        assert [one.join() for one in waiting] == [None, None, None]


def test_who_claims_a_place_hears_that_it_is_looked_into_until_it_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(membership, "ANSWER", 1.0)
    with met() as (cluster, _, _), guest(cluster) as claimant:
        claimant.send(hello(cluster, "worker:1", "another"))
        said: list[str] = []
        while not said or said[-1] != "go":
            said.append(heard(claimant)["say"])
        assert said.count("status") > 2
        assert {*said[:-1]} == {"status"}


def test_who_comes_back_with_another_cluster_is_asked_which_and_refused() -> None:
    with met() as (cluster, chief, agreements):
        session = agreements["worker:1"].session
        assert session is not None
        session.close()
        until(lambda: door(agreements).absent())
        jobs = {**cluster.jobs, "ps": (*cluster.jobs["ps"], "127.0.0.1:9")}
        said = come(Cluster(jobs), "worker:1", stay=True).join().failed(RendezvousMismatch)
        assert "was started with another cluster spec: it has ps = [" in said
        assert any(line.startswith("refused: worker:1 (process ") for line in chief.log)
        assert names(door(agreements).present()) == ["chief:0", "worker:0", "ps:0"]


@pytest.mark.parametrize("stay", [False, True])
def test_a_connection_that_cannot_be_taken_now_is_taken_later(
    stay: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there are too many open files for the moment."""
    accept, failures = socket.socket.accept, iter([OSError(24, "too many open files")] * 5)

    def at_last(listening: socket.socket) -> tuple[socket.socket, object]:
        for failure in failures:
            raise failure
        return accept(listening)

    if not stay:  # else once they have met
        monkeypatch.setattr(socket.socket, "accept", at_last)
    with met() as (cluster, chief, agreements):
        monkeypatch.setattr(socket.socket, "accept", at_last)
        with guest(cluster) as odd:
            odd.send({"say": "dance"})
            until(lambda: is_closed(odd))
        assert ignored(chief, "a message that is no hello")
        assert next(failures, None) is None
        assert len(door(agreements).present()) == 4


def test_a_chief_that_says_nothing_for_long_is_told_of_and_lost_at_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_of_a_server, "_TICK", 0.05)
    monkeypatch.setattr(session_of_a_server, "_QUIET", 0.2)
    monkeypatch.setattr(session_of_a_server, "_PATIENCE", 1)
    monkeypatch.setenv("TFDIST_STALL_TIMEOUT", "1.5")
    warned: list[str] = []
    monkeypatch.setattr(log, "warning", lambda text, *args: warned.append(text % args))
    with met() as (cluster, _, agreements):
        monkeypatch.setattr(door(agreements), "_tend", lambda now: None)
        lost = Waiting(agreements["ps:0"]).join()
        assert isinstance(lost, TaskLost)
        at = cluster.address(cluster.chief)
        assert str(lost).startswith(f"chief:0 ({at}) has said nothing for ")
        assert ": its process is stopped, or its host cannot be reached, " in str(lost)
    assert len(warned) == 1
    assert warned[0].startswith(f"ps:0 waits for chief:0 ({at}), which has said nothing for ")
