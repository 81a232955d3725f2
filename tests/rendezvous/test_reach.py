"""Who may not listen yet is reached once, and nobody is left without the last word."""

from __future__ import annotations

import socket
import time

import pytest

from tfdist.cluster.address import Address
from tfdist.machine.ports import Reservation
from tfdist.rendezvous.messages import Connection, Gone
from tfdist.rendezvous.reach import farewell, reach


def test_who_listens_is_reached_and_who_does_not_is_told_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = reach(Address("localhost", server.getsockname()[1]), 2)
        assert isinstance(made, socket.socket)
        made.close()
    with Reservation(1) as reservation:
        assert "refused" in str(reach(Address("127.0.0.1", reservation.ports[0]), 2))
    assert isinstance(reach(Address("no-such.invalid", 1), 2), str)


def test_a_socket_that_the_kernel_joins_to_itself_has_reached_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As happens now and then where a port of those that are given out has no listener."""
    with Reservation(1) as reservation:
        port = reservation.ports[0]
    connect = socket.socket.connect

    def to_itself(one: socket.socket, to: tuple[str, int]) -> None:
        one.bind(to)
        connect(one, to)

    monkeypatch.setattr(socket.socket, "connect", to_itself)
    assert reach(Address("127.0.0.1", port), 2) == "no answer"


def test_all_that_was_said_is_read_before_a_connection_ends() -> None:
    ours, theirs = (Connection(one) for one in socket.socketpair())
    with theirs.socket:
        ours.send({"say": "ended", "well": True, "text": "x" * 1000})
        theirs.socket.shutdown(socket.SHUT_WR)  # they have no more to say
        farewell([ours])
        assert ours.socket.fileno() == -1
        heard = []
        try:
            while True:
                heard += theirs.receive()
        except Gone:
            pass
    assert [len(one["text"]) for one in heard] == [1000]


def test_who_never_leaves_is_not_waited_for_for_ever() -> None:
    ours, theirs = (Connection(one) for one in socket.socketpair())
    with theirs.socket:
        began = time.monotonic()
        farewell([ours])
        assert 1 < time.monotonic() - began < 20
    assert ours.socket.fileno() == -1
