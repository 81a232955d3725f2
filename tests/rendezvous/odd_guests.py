"""Connections to a chief by hand, which say what no task of tfdist would, or what one does."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

from tests.rendezvous.meeting import Coming, a_handshake, come, speaking
from tfdist.cluster import Cluster
from tfdist.rendezvous.messages import Connection, Gone, Message

__all__ = ["finish", "guest", "heard", "hello", "ignored", "is_closed", "own_name"]


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


def own_name(guest: Connection) -> str:
    """What the other side calls it."""
    host, port = guest.socket.getsockname()[:2]
    return f"{host}:{port}"
