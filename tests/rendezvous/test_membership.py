"""The chief keeps the door open: the servers stay, come back, and hear how the job has ended."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.rendezvous.meeting import Coming, a_cluster, come
from tfdist.cluster import Cluster
from tfdist.errors import ClusterError, PortInUse, RendezvousMismatch, RendezvousTimeout, TaskLost
from tfdist.rendezvous import membership
from tfdist.rendezvous.agreement import Agreement
from tfdist.rendezvous.membership import Membership
from tfdist.rendezvous.messages import Connection, Gone, Message
from tfdist.rendezvous.session import Session

pytestmark = pytest.mark.timeout(40)


@contextlib.contextmanager
def met() -> Iterator[tuple[Cluster, Coming, dict[str, Agreement]]]:
    """A chief, two workers and a ps of this process that have met and stay."""
    with a_cluster(2, ps=1) as cluster:
        coming = {str(task): come(cluster, str(task), stay=True) for task in cluster.tasks}
        agreements = {task: one.join().agreement for task, one in coming.items()}
        try:
            yield cluster, coming["chief:0"], agreements
        finally:
            for one in agreements.values():
                if one.session is not None:
                    one.session.close()
            door(agreements).close(well=False)


def door(agreements: dict[str, Agreement]) -> Membership:
    found = agreements["chief:0"].membership
    assert found is not None
    return found


class Waiting:
    """A thread that waits for the end; `outcome` is None where the job ended well."""

    def __init__(self, agreement: Agreement) -> None:
        self.outcome: BaseException | str | None = "still waiting"
        self._agreement = agreement
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._agreement.wait_for_the_end()
            self.outcome = None
        except Exception as error:
            self.outcome = error

    def join(self) -> BaseException | str | None:
        self._thread.join(10)
        return self.outcome


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def names(tasks: tuple[Any, ...]) -> list[str]:
    return [str(task) for task in tasks]


def test_all_hear_that_the_job_has_ended_well() -> None:
    with met() as (_, _, agreements):
        waiting = [Waiting(agreements[task]) for task in ("worker:0", "worker:1", "ps:0")]
        door(agreements).wait_for_servers(5)
        door(agreements).close(well=True)
        assert [one.join() for one in waiting] == [None, None, None]


def test_a_last_word_that_came_before_the_wait_is_heard() -> None:
    with met() as (_, _, agreements):
        closing = threading.Thread(target=lambda: door(agreements).close(well=True))
        closing.start()
        time.sleep(0.3)
        assert Waiting(agreements["ps:0"]).join() is None
        closing.join(10)


def test_all_hear_why_the_job_has_ended_badly() -> None:
    with met() as (cluster, _, agreements):
        waiting = Waiting(agreements["worker:1"])
        door(agreements).close(well=False, reason="ValueError: shapes differ")
        error = waiting.join()
        assert isinstance(error, TaskLost)
        at = cluster.address(cluster.chief)
        assert str(error).startswith(f"chief:0 ({at}) has failed (ValueError: shapes differ), ")


def test_after_the_close_no_thread_and_no_listener_is_left() -> None:
    with met() as (cluster, _, agreements):
        door(agreements).close(well=True)
        assert not [one for one in threading.enumerate() if one.name == "tfdist-membership"]
        host, _, port = cluster.address(cluster.chief).rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=5)


def test_a_task_that_comes_back_gets_the_same_seed() -> None:
    with met() as (cluster, chief, agreements):
        session = agreements["worker:1"].session
        assert session is not None
        session.close()
        until(lambda: names(door(agreements).absent()) == ["worker:1"])
        back = come(cluster, "worker:1", stay=True).join().agreement
        assert back.seed == agreements["chief:0"].seed
        until(lambda: not door(agreements).absent())
        assert door(agreements).times(cluster.tasks[2]) == 2
        until(lambda: chief.log[-1].startswith("worker:1 is back (process "))
        assert chief.log[-2] == "worker:1 is gone"
        waiting = Waiting(back)
        door(agreements).close(well=True)
        assert waiting.join() is None


def test_a_second_process_of_a_task_that_lives_is_refused_and_the_first_goes_on() -> None:
    with met() as (cluster, _, agreements):
        waiting = Waiting(agreements["worker:1"])
        text = come(cluster, "worker:1", stay=True).join().failed(RendezvousMismatch)
        assert text.startswith("two processes claim to be worker:1: ")
        door(agreements).close(well=True)
        assert waiting.join() is None


def test_a_second_chief_is_refused_by_its_port() -> None:
    with met() as (cluster, _, _):
        text = come(cluster, "chief:0", stay=True).join().failed(PortInUse)
        assert ", this one (" in text


def test_a_task_that_does_not_answer_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "ANSWER", 0.5)
    with met() as (cluster, _, agreements):  # nobody reads the connection of worker:1
        back = Waiting(come(cluster, "worker:1", stay=True).join().agreement)
        error = Waiting(agreements["worker:1"]).join()
        assert isinstance(error, TaskLost)
        assert "another process has taken the place of worker:1" in str(error)
        door(agreements).close(well=True)
        assert back.join() is None


def test_who_comes_back_with_another_version_is_refused_alone() -> None:
    with met() as (cluster, chief, agreements):
        session = agreements["ps:0"].session
        assert session is not None
        session.close()
        text = come(cluster, "ps:0", stay=True, kind="pipeline").join().failed(RendezvousMismatch)
        assert "is to run the strategy 'pipeline'" in text
        assert any(line.startswith("refused: ps:0 (process ") for line in chief.log)
        assert names(door(agreements).present()) == ["chief:0", "worker:0", "worker:1"]


def test_strangers_are_ignored() -> None:
    with met() as (cluster, chief, agreements):
        host, _, port = cluster.address(cluster.chief).rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert stranger.recv(100) == b""
        with socket.create_connection((host, int(port)), timeout=5) as stranger:
            stranger.sendall(b"\0" * 100_000)
        until(lambda: any("a web client" in line for line in chief.log))
        assert len(door(agreements).present()) == 4


def test_a_server_that_never_starts_is_named() -> None:
    with met() as (cluster, _, agreements):
        waiting = Waiting(agreements["worker:0"])
        at = cluster.address(cluster.tasks[2]), cluster.address(cluster.tasks[3])
        with pytest.raises(RendezvousTimeout) as caught:
            door(agreements).wait_for_servers(0.3)
        assert f"worker:1 ({at[0]}) and ps:0 ({at[1]}) did not serve within 0.3 s" in str(
            caught.value
        )
        door(agreements).close(well=True)
        assert waiting.join() is None


CHIEF = """
import os, sys, time
from tfdist.cluster import Cluster
from tfdist.rendezvous.agreement import meet
agreement = meet(Cluster.from_environment(), timeout=20, stay=True)
child = os.fork() if sys.argv[1] == "fork" else None
if child == 0:
    agreement.membership.close(well=True)  # a child's word does not count
    os.write(1, b"alive\\n")  # in one piece: two processes write to one pipe
    time.sleep(30)
    os._exit(0)
os.write(1, b"%d\\n" % (child or 0))
time.sleep(30)
"""


@pytest.mark.parametrize("mode", ["alone", "fork"])
def test_a_killed_chief_is_a_lost_task_even_where_a_forked_child_lives_on(mode: str) -> None:
    with a_cluster(1, ps=1) as cluster:
        chief = subprocess.Popen(
            [sys.executable, "-c", CHIEF, mode],
            env={
                **os.environ,
                "TF_CONFIG": cluster.to_tf_config(cluster.chief),
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        child = 0
        try:
            coming = [come(cluster, task, stay=True) for task in ("worker:0", "ps:0")]
            waiting = [Waiting(one.join().agreement) for one in coming]
            assert chief.stdout is not None
            said = {chief.stdout.readline().strip() for _ in range(1 + (mode == "fork"))}
            child = int(min(said - {"alive"}))
            assert ("alive" in said) is (mode == "fork")
            time.sleep(0.2)
            assert [one.outcome for one in waiting] == ["still waiting"] * 2
            chief.kill()
            start = time.monotonic()
            for one in waiting:
                error = one.join()
                assert isinstance(error, TaskLost)
                assert "closed its connection without a last word: its process was killed" in str(
                    error
                )
            assert time.monotonic() - start < 5
        finally:
            chief.kill()
            if child:
                os.kill(child, signal.SIGKILL)
            chief.communicate(timeout=10)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ETIMEDOUT, "can no longer be reached: its machine has stopped, or the network was"),
        (errno.EHOSTUNREACH, "can no longer be reached: "),
        (errno.ECONNRESET, "closed its connection without a last word: its process was killed"),
    ],
)
def test_a_chief_whose_network_is_cut_is_not_said_to_have_died(code: int, words: str) -> None:
    class Cut(Connection):
        def receive(self) -> list[Message]:
            raise Gone(OSError(code, os.strerror(code)))

    near, far = socket.socketpair()
    with near, far, a_cluster(1, ps=1) as cluster:
        far.sendall(b"!")  # there is something to read
        session = Session(cluster.with_task("ps:0"), Cut(near), [])
        with pytest.raises(TaskLost) as caught:
            session.wait()
    assert f"chief:0 ({cluster.address(cluster.chief)}) {words}" in str(caught.value)
    assert not caught.value.told


def test_those_who_would_stay_wait_no_longer_for_who_never_comes() -> None:
    with a_cluster(1, ps=1) as cluster:
        at = cluster.address(cluster.tasks[2])
        here = [come(cluster, task, stay=True, timeout=0.5) for task in ("chief:0", "worker:0")]
        said = {one.join().failed(RendezvousTimeout) for one in here}
        assert len(said) == 1
        assert said.pop().startswith(f"ps:0 ({at}) did not come within 0.5 s (2 of 3 tasks came)")
        assert not [one for one in threading.enumerate() if one.name == "tfdist-membership"]


def test_a_task_that_met_without_staying_has_nobody_to_wait_for() -> None:
    with a_cluster(2) as cluster:
        one, _ = [one.join() for one in [come(cluster, f"worker:{n}") for n in range(2)]]
        with pytest.raises(ClusterError, match="no chief to wait for"):
            one.agreement.wait_for_the_end()
