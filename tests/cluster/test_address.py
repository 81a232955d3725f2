"""An address, in and out; what is wrong with one is among the bad configs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.cluster.address import Address
from tfdist.errors import ClusterError

hosts = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_.-]{0,20}[a-z0-9]", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)


@settings(max_examples=50, deadline=None)
@given(hosts, st.integers(1, 65535))
def test_an_address_that_is_written_is_read_as_the_same(host: str, port: int) -> None:
    address = Address(host, port)
    assert Address.parse(str(address)) == address


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_clear_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except ClusterError as error:
        message = str(error)
    else:
        message = repr(text)
        assert 1 <= address.port <= 65535
    assert repr(text) in message


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.2:2222", "10.0.0.2", 2222),
        ("node-1.example:1", "node-1.example", 1),
        ("train_worker_0:65535", "train_worker_0", 65535),
        ("[fd00::2]:2222", "fd00::2", 2222),
    ],
)
def test_addresses_are_host_and_port(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize("text", ["[::1:2222", "[node]:1", "[::1]", "[::1]2222", "::1"])
def test_a_wrong_ipv6_address_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match="address"):
        Address.parse(text)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST", "0.0.0.0"]
)
def test_the_names_of_the_loopback_are_one_place(host: str) -> None:
    address = Address(host, 2222)
    assert address.is_loopback
    assert address.canonical == ("localhost", 2222)


def test_one_host_written_in_two_ways_is_one_place() -> None:
    assert Address("Node-1.", 1).canonical == Address("node-1", 1).canonical
    assert Address("fd00:0:0::2", 1).canonical == Address("fd00::2", 1).canonical


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("grpc://node:1", "'node:1'"),
        ("grpc://node:1/a/b", "'node:1'"),
        ("grpc://node:1/http://other:2", "'node:1'"),
        ("grpc://node://other", "'node:'"),
        ("grpc://", "'host:port'"),
    ],
)
def test_an_address_with_a_scheme_is_refused_with_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(ClusterError) as caught:
        Address.parse(text)
    said = f"address {text!r} with a scheme; write host:port alone: {advice}"
    assert str(caught.value) == said


@pytest.mark.parametrize("port", [0, 65536, 99999])
def test_a_port_that_there_is_not_is_refused(port: int) -> None:
    with pytest.raises(ClusterError, match=f"with port {port}; every task needs a fixed port from"):
        Address.parse(f"node:{port}")
    assert Address.parse("node:65535").port == 65535
    assert Address.parse("node:1").port == 1


def test_an_address_is_a_value() -> None:
    assert len({Address("node", 1), Address("node", 1)}) == 1
    with pytest.raises(AttributeError):
        Address("node", 1).port = 2  # type: ignore[misc]


def test_only_names_are_looked_up() -> None:
    assert Address("node-1", 1).is_name
    assert Address("localhost", 1).is_name
    assert not Address("10.0.0.2", 1).is_name
    assert not Address("fd00::2", 1).is_name
