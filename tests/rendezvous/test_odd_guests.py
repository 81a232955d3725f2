"""Who comes to the chief's address and behaves as no task of tfdist does."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rendezvous.meeting import Coming, a_cluster, a_handshake, come, hosting, speaking
from tests.rendezvous.test_membership import Waiting, door, met, until
from tfdist.cluster import Cluster
from tfdist.errors import ClusterError, RendezvousError, RendezvousTimeout, TaskLost
from tfdist.rendezvous import agreement, coordinator, membership
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection, Gone, Message
from tfdist.rendezvous.session import Session

pytestmark = pytest.mark.timeout(40)


@contextlib.contextmanager
def guest(cluster: Cluster, *, silent: bool = False) -> Iterator[Connection]:
    """A connection to the chief, which may have to begin to listen."""
    host, _, port = cluster.address(cluster.chief).rpartition(":")
    end = time.monotonic() + 10
    while True:
        try:
            connected = socket.create_connection((host, int(port)), timeout=5)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.05)
    connection = Connection(connected) if silent else speaking(connected, cluster)
    try:
        yield connection
    finally:
        connection.close()


def hello(cluster: Cluster, task: str, token: str = "its own") -> Message:
    return a_handshake(cluster, task, token).to_message()


def heard(connection: Connection, seconds: float = 10.0) -> Message:
    """The next message."""
    end = time.monotonic() + seconds
    while not (messages := connection.receive()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return messages[0]


def is_closed(connection: Connection) -> bool:
    try:
        connection.receive()
    except Gone:
        return True
    return False


def ignored(coming: Coming, what: str) -> bool:
    return any(
        line.startswith("ignored a connection from ") and line.endswith(f", no task but {what}")
        for line in coming.log
    )


def finish(cluster: Cluster, chief: Coming, *tasks: str) -> None:
    """The job begins in spite of all."""
    others = [come(cluster, task) for task in tasks]
    assert {one.join().agreement.seed for one in others} == {chief.join().agreement.seed}


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


# ---------------------------------------------------------------- an odd chief


@contextlib.contextmanager
def odd_chief(cluster: Cluster, *messages: Message) -> Iterator[None]:
    """Somebody at the chief's address who says these to whoever comes, and then nothing."""
    host, _, port = cluster.address(cluster.chief).rpartition(":")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server((host, int(port)), reuse_port=False))
        server.settimeout(0.1)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    connection = hosting(server.accept()[0], cluster)
                    stack.callback(connection.close)
                    for message in messages:
                        connection.send(message)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(5)


def a_free_cluster() -> Cluster:
    """Two workers, of whom nobody has the ports; only the second one's is bound."""
    with a_cluster(2) as cluster:
        return cluster


def test_a_chief_that_says_what_none_says_is_told_as_such() -> None:
    cluster = a_free_cluster()
    with odd_chief(cluster, {"say": "dance"}):
        other = come(cluster, "worker:1", timeout=1.0).join()
    said = other.failed(RendezvousError)
    assert said.startswith(
        f"something that said 'dance' at the address of worker:0, {cluster.address('worker:0')}, "
        "where a tfdist task should be; "
    )


def test_a_chief_that_falls_silent_is_believed_on_who_was_missing() -> None:
    with a_cluster(3) as three:
        cluster = three
    with odd_chief(cluster, {"say": "status", "round": 0, "missing": ["worker:2"]}):
        other = come(cluster, "worker:1", timeout=1.0).join()
    assert other.failed(RendezvousTimeout).startswith(
        f"worker:2 ({cluster.address('worker:2')}) did not come within 1 s"
    )


# ---------------------------------------------------------------- odd sockets


def test_a_task_that_cannot_listen_at_its_address_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: Any, **__: Any) -> socket.socket:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(agreement, "listen", nowhere)
    with a_cluster(2) as cluster:
        said = come(cluster, "worker:0").join().failed(ClusterError)
        at = cluster.address("worker:0")
    assert said == (
        f"address {at} of worker:0, where this machine cannot listen (cannot assign requested "
        "address); give worker:0 another one"
    )


def test_a_connection_that_is_reset_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near = Connection(server.accept()[0])
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        time.sleep(0.1)
        with pytest.raises(Gone) as caught:
            near.receive()
        assert not caught.value.unreachable
        near.close()


def test_an_end_is_waited_for_once() -> None:
    near, far = socket.socketpair()
    with near, far, a_cluster(1, ps=1) as cluster:
        session = Session(
            cluster.with_task("ps:0"), Connection(near), [{"say": "ended", "well": 1}]
        )
        session.wait()
        with pytest.raises(ClusterError, match=r"^an end that was waited for already; wait for it"):
            session.wait()


def test_a_chief_that_sends_something_else_is_lost() -> None:
    near, far = socket.socketpair()
    with near, far, a_cluster(1, ps=1) as cluster:
        far.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with pytest.raises(TaskLost) as caught:
            Session(cluster.with_task("ps:0"), Connection(near), []).wait()
    at = cluster.address(cluster.chief)
    assert str(caught.value).startswith(f"chief:0 ({at}) has sent ")
    assert str(caught.value).endswith(
        "ps:0 had begun to serve it; see the log of chief:0, and start the job again"
    )


def test_jobs_that_are_no_cluster_are_another_cluster() -> None:
    with a_cluster(2) as cluster:
        own = Handshake("worker:0", cluster.jobs, "", {}, 9.0, 9.0)
        odd = Handshake("worker:1", {"worker": ("nowhere",)}, "", {}, 9.0, 9.0)
    said = odd.difference(own)
    assert said is not None
    assert (
        'was started with another cluster spec: it has worker = ["nowhere"], worker:0 has' in said
    )
