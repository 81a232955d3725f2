"""Connections that native code holds can be ended from beside it."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

import pytest

from tfdist.cluster.address import Address
from tfdist.machine.connections import sever, which_answer
from tfdist.machine.ports import Reservation


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
def test_the_connections_to_an_address_are_ended_and_no_others() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(one.getsockname()) as first,
        socket.create_connection(one.getsockname()) as second,
        socket.create_connection(other.getsockname()) as third,
        other.accept()[0] as end_of_third,
    ):
        port = one.getsockname()[1]
        assert sever(["10.9.8.7"], port) == 0
        assert sever(["127.0.0.1"], port) == 2
        for ended in (first, second):
            ended.settimeout(5)
            assert ended.recv(1) == b""
        end_of_third.sendall(b"x")
        third.settimeout(5)
        assert third.recv(1) == b"x"


def test_servers_answer_that_say_anything_at_all() -> None:
    def serve() -> None:
        with server.accept()[0] as one:
            said.append(one.recv(100))
            one.sendall(b"\0")

    said: list[bytes] = []
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("127.0.0.1", 0)) as stopped,
        Reservation(1) as reservation,
    ):
        answers = Address("localhost", server.getsockname()[1])
        # The kernel takes what is said to the second; nobody is at the third, or has the fourth.
        ports = (stopped.getsockname()[1], reservation.ports[0])
        silent = [*(Address("127.0.0.1", port) for port in ports), Address("no-such.invalid", 1)]
        thread = threading.Thread(target=serve)
        thread.start()
        assert which_answer([*silent, answers], 1.0) == {answers}
        thread.join(10)
    assert said[0].startswith(b"PRI * HTTP/2.0")


def test_many_servers_are_asked_in_the_time_of_one() -> None:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(8)]
        began = time.monotonic()
        assert which_answer([Address(*one.getsockname()) for one in made], 0.3) == set()
        assert time.monotonic() - began < 8 * 0.3
