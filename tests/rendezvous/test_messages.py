"""The frames of a rendezvous, however they arrive and whoever sends them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import MAGIC, MAX_BYTES, Connection, Gone, Stranger, describe


@contextlib.contextmanager
def a_pair() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection, and the plain socket on its other side."""
    near, far = socket.socketpair()
    connection = Connection(near)
    try:
        yield connection, far
    finally:
        connection.close()
        far.close()


def frame(body: bytes) -> bytes:
    return MAGIC + len(body).to_bytes(4, "big") + body


bodies = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20), max_size=4)


@settings(max_examples=50, deadline=None)
@given(st.lists(bodies, max_size=4), st.integers(1, 50))
def test_messages_arrive_whole_however_they_are_cut(bodies: list[dict[str, int]], cut: int) -> None:
    messages = [{**body, "say": "x"} for body in bodies]
    with a_pair() as (near, far), a_pair() as (writer, tap):
        for message in messages:
            writer.send(message)
        data = b""
        while len(messages) and data.count(MAGIC) < len(messages):
            data += tap.recv(65536)
        received = []
        for start in range(0, len(data), cut):
            far.sendall(data[start : start + cut])
            received += near.receive()
        assert received == messages


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_waited_for_refused_or_no_more(data: bytes) -> None:
    with a_pair() as (near, far):
        far.sendall(data)
        if not MAGIC.startswith(data[: len(MAGIC)]):
            with pytest.raises(Stranger):
                near.receive()
        else:
            assert near.receive() == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "a web client, which said 'GET / HTTP/1.1'"),
        (MAGIC + b"\xff\xff\xff\xff", "a message of 4294967295 bytes"),
        (frame(b"{"), "not JSON"),
        (frame(b"[" * 60_000), "not JSON"),
        (frame(b"[1]"), "says nothing"),
        (frame(b'{"say": 1}'), "says nothing"),
        (frame(b"\xff\xfe"), "not JSON"),
    ],
)
def test_a_stranger_is_described(data: bytes, says: str) -> None:
    with a_pair() as (near, far):
        far.sendall(data)
        with pytest.raises(Stranger) as stranger:
            near.receive()
    assert says in str(stranger.value)


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "a web server, which said 'HTTP/1.1 400 Bad Request'"),
        (b"<!DOCTYPE HTML>\n<html>", "a web server"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "an SSH server"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "a gRPC server"),
        (b"220 mail ready", "something that said '220 mail ready'"),
        (b"\x00\xff\n", r"'\x00\\xff'"),
    ],
)
def test_whoever_answers_in_another_protocol_is_guessed(first: bytes, says: str) -> None:
    assert says in describe(first)


def test_a_closed_connection_gives_its_last_messages_first() -> None:
    with a_pair() as (near, far):
        far.sendall(frame(b'{"say": "x"}'))
        far.close()
        assert near.receive() == [{"say": "x"}]
        with pytest.raises(Gone):
            near.receive()


def test_a_lost_connection_is_told_while_sending() -> None:
    with a_pair() as (near, far):
        far.close()
        with pytest.raises(Gone):
            near.send({"say": "x"})


def test_one_who_never_reads_is_given_up() -> None:
    def talk(connection: Connection) -> None:
        for _ in range(100):
            connection.send({"say": "x", "text": "y" * (MAX_BYTES // 2)})

    with a_pair() as (near, _), pytest.raises(Gone):
        talk(near)


def handshake(**changes: object) -> Handshake:
    fields: dict[str, object] = {
        "task": "worker:1",
        "jobs": {"worker": ("a:1", "b:1")},
        "kind": "multi_worker_mirrored",
        "versions": {"keras": "3.15.1", "python": "3.11"},
        "timeout": 10.0,
        "remaining": 9.5,
        "pid": 12,
        "host": "node-1",
        "token": "t",
    }
    return Handshake(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_hello_that_is_sent_is_read_as_the_same() -> None:
    with a_pair() as (near, far):
        Connection(far).send(handshake().to_message())
        (message,) = near.receive()
    assert Handshake.from_message(message) == handshake()


@pytest.mark.parametrize(
    "changes",
    [
        {"say": "here"},
        {"jobs": None},
        {"jobs": {"worker": 3}},
        {"remaining": "soon"},
        {"remaining": -1},
        {"remaining": float("nan")},
        {"pid": None},
        {"versions": []},
    ],
)
def test_what_is_no_hello_is_none(changes: dict[str, object]) -> None:
    message = {**handshake().to_message(), **changes}
    assert Handshake.from_message(message) is None
    del message["say"]
    assert Handshake.from_message(message) is None


def test_equal_tasks_do_not_differ() -> None:
    assert handshake().difference(handshake(task="worker:0", pid=13, token="u")) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"jobs": {"worker": ("a:1", "c:1")}},
            (
                "worker:1 (process 12 on node-1) was started with another cluster spec: it has "
                'worker = ["a:1", "c:1"], worker:0 has worker = ["a:1", "b:1"]; start every task '
                "with the same cluster"
            ),
        ),
        (
            {"jobs": {"worker": ("a:1", "b:1"), "ps": ("c:1",)}},
            'it has ps = ["c:1"], worker:0 has no ps;',
        ),
        (
            {"versions": {"keras": "3.14.0", "python": "3.11"}},
            (
                "worker:1 (process 12 on node-1) runs keras 3.14.0, worker:0 runs keras 3.15.1; "
                "install the same version on every machine"
            ),
        ),
        (
            {"kind": "pipeline"},
            "is to run the strategy 'pipeline', worker:0 'multi_worker_mirrored'; start every",
        ),
        ({"kind": ""}, "is to run the strategy 'unknown'"),
        ({"protocol": 1}, "speaks version 1 of the rendezvous, worker:0 version 3"),
    ],
)
def test_a_difference_names_the_task_both_values_and_the_cure(
    changes: dict[str, object], says: str
) -> None:
    difference = handshake(**changes).difference(handshake(task="worker:0"))
    assert difference is not None
    assert says in difference


def test_a_difference_of_large_clusters_is_shortened_and_plain() -> None:
    many = handshake(jobs={"worker": tuple(f"node-{i}:1" for i in range(5000))}, host="no\x1bde\n")
    read = Handshake.from_message(many.to_message())
    assert read is not None
    text = read.difference(handshake())
    assert text is not None
    assert len(text) < 1000
    assert text.isprintable()


def test_two_spellings_of_one_cluster_do_not_differ() -> None:
    one = handshake(jobs={"worker": ("localhost:1", "b:1")})
    assert one.difference(handshake(jobs={"worker": ("127.0.0.1:1", "B:1")})) is None
