"""Ports that are held and ports that are in use."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tfdist.cluster import Cluster
from tfdist.errors import ClusterError
from tfdist.machine import ports
from tfdist.machine.ports import Reservation, busy, hold, listen, reuse_port, shareable

linux = pytest.mark.skipif(sys.platform != "linux", reason="as Linux shares ports")


def test_reserved_ports_are_all_different() -> None:
    with Reservation(50) as reservation:
        assert len(set(reservation.ports)) == 50


def test_nobody_is_given_a_reserved_port() -> None:
    with Reservation(200) as first, Reservation(200) as second:
        assert not set(first.ports) & set(second.ports)
        sockets = [socket.socket() for _ in range(200)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        taken = {one.getsockname()[1] for one in sockets}
        for one in sockets:
            one.close()
        assert not taken & {*first.ports, *second.ports}


def test_a_plain_server_cannot_take_a_reserved_port() -> None:
    with (
        Reservation(1) as reservation,
        socket.socket() as thief,
        pytest.raises(OSError, match="in use"),
    ):
        thief.bind(("127.0.0.1", reservation.ports[0]))


def test_a_reserved_port_is_not_in_use_for_us_and_does_not_answer() -> None:
    with Reservation(1) as reservation:
        assert busy(reservation.ports[0]) is None
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", reservation.ports[0]))


def test_a_reservation_ends_with_its_block_and_with_its_object() -> None:
    with Reservation(1) as reservation:
        (port,) = reservation.ports
    socket.create_server(("127.0.0.1", port)).close()
    reservation = Reservation(1)
    (port,) = reservation.ports
    del reservation
    socket.create_server(("127.0.0.1", port)).close()


def test_given_ports_can_be_held() -> None:
    with Reservation(1) as first:
        (port,) = first.ports
    with Reservation(ports=(port,)) as second:
        assert second.ports == (port,)


def test_a_port_in_use_cannot_be_held() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ClusterError, match=f"port {port} that is in use by process"):
            Reservation(ports=(port,))


@pytest.mark.parametrize("setting", ["", "1"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_a_port_in_use_is_told_with_its_process(
    host: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_GRPC_REUSE_PORT", setting)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        # A TensorFlow server under TF_GRPC_REUSE_PORT=1 would let a second one in.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((host, 0))
        server.listen()
        reason = busy(server.getsockname()[1])
    assert reason is not None
    assert f"process {os.getpid()}, this one" in reason


@linux
def test_one_listener_alone_has_a_held_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_GRPC_REUSE_PORT", "1")
    with Reservation(1) as reservation:
        (port,) = reservation.ports
        with (
            listen(port, host="127.0.0.1"),
            pytest.raises(OSError, match="in use"),
        ):
            listen(port, host="127.0.0.1")
        listen(port).close()


def test_a_port_with_a_closing_connection_is_free_again() -> None:
    with Reservation(1) as reservation:
        (port,) = reservation.ports
        with listen(port) as server, socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the first to close keeps the connection in TIME_WAIT
            assert client.recv(1) == b""
        assert busy(port) is None
        listen(port).close()


@pytest.mark.skipif(os.geteuid() == 0, reason="the system's user may open any port")
def test_a_port_of_the_system_is_told() -> None:
    reason = busy(1)
    assert reason is None or "not open to this user" in reason


@pytest.mark.parametrize(
    ("value", "means"), [("1", True), ("true", True), ("True", True), ("0", False), ("", False)]
)
def test_the_setting_is_read_as_tensorflow_reads_it(value: str, means: bool) -> None:
    assert reuse_port({"TF_GRPC_REUSE_PORT": value}) is means
    assert not reuse_port({})
    assert shareable({"TF_GRPC_REUSE_PORT": "1"})


def test_a_held_port_is_not_inherited_by_children() -> None:
    held = hold()
    assert not held.get_inheritable()
    held.close()


SERVERS = """
import os
import tensorflow as tf
from tfdist.cluster import Cluster
from tfdist.machine.ports import busy
from tfdist.rendezvous.agreement import meet
from tfdist.errors import ClusterError, RendezvousError

cluster = Cluster.from_environment()

def serve(task):
    try:
        servers.append(tf.distribute.Server(dict(cluster.jobs), task.type, task.index))
    except tf.errors.UnknownError as error:
        print(error.message)
    else:
        print("up")

servers = []
for setting, task in zip(("0", "1"), cluster.tasks):
    os.environ["TF_GRPC_REUSE_PORT"] = setting
    here = cluster.with_task(task)
    here.validate()
    serve(task)
    serve(task)
    try:
        here.validate()
    except ClusterError as error:
        print(error)
try:
    meet(cluster.with_task("worker:2"), timeout=1)
except RendezvousError as error:
    print(error)
os._exit(0)  # a TensorFlow server never stops by itself
"""


@linux
@pytest.mark.timeout(90)
def test_real_servers_bind_reserved_ports() -> None:
    with Reservation(3) as reservation:
        cluster = Cluster.local(workers=3, ports=reservation.ports)
        done = subprocess.run(
            [sys.executable, "-u", "-c", SERVERS],
            env={
                **os.environ,
                "TF_CONFIG": cluster.to_tf_config("worker:0"),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    said = done.stdout.splitlines()
    assert len(said) == 7, done.stderr
    # A reserved port needs no setting, and without it TensorFlow refuses a second server, ...
    assert said[:2] == ["up", "Could not start gRPC server"]
    assert f"port {reservation.ports[0]} of worker:0" in said[2]
    assert "in use by process" in said[2]
    # ... which TF_GRPC_REUSE_PORT=1 lets in silently: then the check is ours alone.
    assert said[3:5] == ["up", "up"]
    assert f"port {reservation.ports[1]} of worker:1" in said[5]
    assert "in use by process" in said[5]
    assert said[6].startswith("a gRPC server, as every TensorFlow task is one once it has started")
    assert f"at the address of worker:0, 127.0.0.1:{reservation.ports[0]}" in said[6]


# What other machines and other systems do


@pytest.fixture
def shared_port() -> Iterator[int]:
    """A port that somebody holds who shares it by SO_REUSEPORT alone, and does not listen."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("0.0.0.0", 0))
        yield holder.getsockname()[1]


@linux
def test_a_port_that_is_shared_can_be_had_where_tensorflow_shares_it_too(
    shared_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_GRPC_REUSE_PORT", "1")
    assert busy(shared_port) is None
    with listen(shared_port):
        assert busy(shared_port) is not None  # now somebody answers


@linux
def test_a_port_that_is_shared_is_in_use_where_tensorflow_does_not(
    shared_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_GRPC_REUSE_PORT", raising=False)
    assert busy(shared_port) == "in use by another process"  # the system tells of listeners only
    with pytest.raises(OSError, match="in use"):
        listen(shared_port)


def test_a_listener_that_comes_between_the_two_calls_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = hold()
    port = held.getsockname()[1]
    bound = ports._bind(socket.AF_INET, "127.0.0.1", port, False)
    monkeypatch.setattr(ports, "_bound", lambda *_, **__: bound)
    with listen_at(port), pytest.raises(OSError, match="in use"):
        listen(port)
    assert bound.fileno() == -1  # closed
    held.close()


def listen_at(port: int) -> socket.socket:
    """Another listener at a port that this process holds."""
    other = ports._bind(socket.AF_INET, "127.0.0.1", port, False)
    other.listen()
    return other


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.EACCES, "not open to this user (ports below 1024 are the system's)"),
        (errno.EMFILE, "not to be had (too many open files)"),
    ],
)
def test_a_port_that_cannot_be_had_is_told_with_the_reason(
    code: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(ports, "_bound", refuse)
    assert busy(1) == reason


def test_a_machine_without_free_ports_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(port: int = 0) -> socket.socket:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    monkeypatch.setattr(ports, "hold", refuse)
    with pytest.raises(ClusterError) as caught:
        Reservation(3)
    assert str(caught.value) == (
        "no more free ports (address already in use) of 3 wanted; end other jobs"
    )


@pytest.mark.parametrize("how", ["no IPv6 in Python", "no IPv6 in the kernel"])
def test_a_machine_without_ipv6_holds_ports_too(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bind = ports._bind

    def refuse(family: socket.AddressFamily, *given: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return bind(family, *given)

    monkeypatch.setattr(ports, "_bind", refuse)
    if how == "no IPv6 in Python":
        monkeypatch.setattr(socket, "has_ipv6", False)
    with hold() as held:
        assert held.family == socket.AF_INET
        assert busy(held.getsockname()[1]) is None


def test_another_error_of_ipv6_is_no_reason_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(family: socket.AddressFamily, *given: Any) -> socket.socket:
        raise OSError(errno.EADDRINUSE, family.name)

    monkeypatch.setattr(ports, "_bind", refuse)
    monkeypatch.setattr(socket, "has_ipv6", True)
    with pytest.raises(OSError, match="AF_INET6"):
        hold()


def test_where_the_system_does_not_tell_the_process_another_one_has_the_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports, "_holder", lambda port: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert busy(server.getsockname()[1]) == "in use by another process"


def test_nobody_has_a_port_that_is_free() -> None:
    with Reservation(1) as first:
        (port,) = first.ports
    assert ports._holder(port) is None


@linux
def test_a_process_of_another_user_has_no_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        table = Path("/proc/net/tcp").read_text()
        (tmp_path / "net").mkdir()
        for name in ("tcp", "tcp6"):
            (tmp_path / "net" / name).write_text(table)
        monkeypatch.setattr(
            ports, "Path", lambda path: tmp_path / str(path).removeprefix("/proc").lstrip("/")
        )
        assert ports._holder(server.getsockname()[1]) is None
