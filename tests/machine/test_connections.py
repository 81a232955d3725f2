"""Connections that native code holds can be ended from beside it."""

from __future__ import annotations

import socket
import sys
import threading

import pytest

from tfdist.machine.connections import grpc_answers, sever


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


def test_a_server_answers_that_says_anything_at_all() -> None:
    def serve() -> None:
        with server.accept()[0] as one:
            said.append(one.recv(100))
            one.sendall(b"\0")

    said: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        assert not grpc_answers(host, port, 0.2)  # the kernel takes it, and nobody says a word
        server.accept()[0].close()
        thread = threading.Thread(target=serve)
        thread.start()
        assert grpc_answers(host, port, 10)
        thread.join(10)
    assert said[0].startswith(b"PRI * HTTP/2.0")
    assert not grpc_answers(host, port, 0.2)  # nobody is there
