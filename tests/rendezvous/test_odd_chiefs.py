"""Who is at the chief's address and is none, and sockets that do as they rarely do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rendezvous.meeting import a_cluster, come, hosting
from tfdist.cluster import Cluster
from tfdist.errors import ClusterError, RendezvousError, RendezvousTimeout, TaskLost
from tfdist.rendezvous import agreement
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection, Gone, Message
from tfdist.rendezvous.session import Session

pytestmark = pytest.mark.timeout(40)


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
