"""Validation against the machine and the network."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from absl import logging

from tests.machine.names import Names
from tfdist.cluster import Cluster
from tfdist.errors import ClusterError, RendezvousTimeout
from tfdist.machine.hosts import UNANSWERED, is_local, look_up
from tfdist.machine.places import await_hosts
from tfdist.machine.ports import Reservation


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings that are logged."""
    lines: list[str] = []

    def warning(form: str, *values: Any) -> None:
        lines.append(form % values)

    monkeypatch.setattr(logging, "warning", warning)
    return lines


def test_a_right_cluster_is_valid_and_says_nothing(warned: list[str]) -> None:
    with Reservation(2) as reservation:
        cluster = Cluster.local(workers=2, ports=reservation.ports).with_task("worker:0")
        assert cluster.validate("multi_worker_mirrored") is cluster
    assert warned == []


@pytest.mark.parametrize("kind", [None, "auto", "mirrored", "one_device"])
def test_these_kinds_set_no_condition_on_the_jobs(kind: str | None) -> None:
    Cluster({"ps": ("127.0.0.1:41009",)}).validate(kind)


@pytest.mark.parametrize("kind", ["multi_worker_mirrored", "pipeline"])
def test_an_evaluator_may_be_in_a_cluster_of_workers(kind: str) -> None:
    # Measured: MultiWorkerMirroredStrategy starts without waiting for it.
    Cluster({"worker": ("127.0.0.1:41001",), "evaluator": ("127.0.0.1:41002",)}).validate(kind)


def test_a_parameter_server_cluster_with_an_evaluator_beside_it_is_valid() -> None:
    cluster = Cluster.local(workers=1, ps=1, ports=(41001, 41002, 41003))
    cluster.with_task("evaluator").validate("parameter_server")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ClusterError, match="unknown kind of strategy 'horovod'; the kinds are"):
        Cluster({"worker": ("127.0.0.1:41001",)}).validate("horovod")


def test_a_port_that_this_process_has_opened_already_is_told_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        cluster = Cluster({"worker": (f"127.0.0.1:{port}", "127.0.0.1:41002")})
        cluster.validate()  # a launcher may look at it all the same
        with pytest.raises(ClusterError) as error:
            cluster.with_task("worker:0").validate()
    assert f"port {port} of worker:0" in str(error.value)
    assert ", this one" in str(error.value)
    assert "; make one strategy in a process" in str(error.value)
    assert "end that process" not in str(error.value)


def test_a_port_in_use_is_told_with_its_process() -> None:
    code = (
        "import socket, time\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True)\ntime.sleep(30)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            port = int(other.stdout.readline())
            cluster = Cluster({"worker": (f"127.0.0.1:{port}", "127.0.0.1:41002")})
            with pytest.raises(ClusterError) as error:
                cluster.with_task("worker:0").validate()
        finally:
            other.kill()
    assert f"in use by process {other.pid} (" in str(error.value)


def test_an_evaluator_needs_no_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        jobs = {"worker": ("127.0.0.1:41001",), "evaluator": (f"127.0.0.1:{port}",)}
        Cluster(jobs).with_task("evaluator").validate()


def test_a_host_that_does_not_resolve_is_named(names: Names) -> None:
    names({"node-1": "198.51.100.1"})
    cluster = Cluster({"worker": ("node-1:1", "node-2:1")})
    with pytest.raises(ClusterError, match="host 'node-2' of worker:1 that does not resolve"):
        cluster.validate()
    assert cluster.validate(resolve=False) is cluster


def test_a_name_server_that_hangs_is_warned_of_in_under_a_second(
    names: Names, warned: list[str]
) -> None:
    names({"node-1": "198.51.100.1", "slow-1": None, "slow-2": None})
    start = time.monotonic()
    Cluster({"worker": ("node-1:1", "slow-1:1", "slow-2:1")}).validate()
    assert time.monotonic() - start < 1
    assert len(warned) == 1
    assert "worker:1 (slow-1:1), worker:2 (slow-2:1): no answer from the name server" in warned[0]


def test_names_that_come_late_are_awaited(names: Names) -> None:
    table: dict[str, str | None] = {"node-1": "198.51.100.1"}
    names(table)
    cluster = Cluster({"worker": ("node-1:1", "node-2:1"), "evaluator": ("node-3:1",)})
    later = threading.Timer(0.3, table.update, [{"node-2": "198.51.100.2"}])
    later.start()
    await_hosts(cluster, 20)
    assert later.finished.is_set()


def test_a_name_that_never_comes_is_named(names: Names) -> None:
    names({"node-1": "198.51.100.1"})
    said = (
        r"worker:1 is here, but its host 'node-2' does not resolve after 0 s \(.*headless service"
    )
    with pytest.raises(RendezvousTimeout, match=said):
        await_hosts(Cluster({"worker": ("node-1:1", "node-2:1")}), 0.1)


def test_the_threads_that_look_up_end_by_themselves(names: Names) -> None:
    names({"slow": None})
    before = set(threading.enumerate())
    assert look_up(["slow"], 0.05) == {"slow": UNANSWERED}
    (left,) = set(threading.enumerate()) - before
    assert left.daemon
    left.join(5)
    assert not left.is_alive()


def test_many_names_are_looked_up_at_once(names: Names) -> None:
    names({f"node-{i}": f"198.51.100.{i}" for i in range(100)})
    found = look_up([f"node-{i}" for i in range(100)], 5)
    assert found["node-99"] == ("198.51.100.99",)
    assert UNANSWERED not in found.values()


def test_two_names_of_one_machine_collide(names: Names) -> None:
    names({"node-1": "198.51.100.1", "node-one": "198.51.100.1"})
    with pytest.raises(ClusterError, match=r"worker:0 at node-1:1 and worker:1 at node-one:1 are"):
        Cluster({"worker": ("node-1:1", "node-one:1")}).validate()
    Cluster({"worker": ("node-1:1", "node-one:2")}).validate()


def test_a_loopback_address_among_others_is_warned_of(warned: list[str]) -> None:
    Cluster({"worker": ("127.0.0.1:41001", "198.51.100.1:41001")}).validate()
    assert warned == ["worker:0: at the loopback, which no other machine can reach"]


def test_a_task_on_the_wrong_machine_is_warned_of(warned: list[str]) -> None:
    cluster = Cluster({"worker": ("198.51.100.1:41001", "198.51.100.2:41001")})
    cluster.with_task("worker:1").validate()
    assert len(warned) == 1
    assert "worker:1: its address 198.51.100.2:41001" in warned[0]


def test_only_own_addresses_are_local() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("198.51.100.1")


def test_a_label_that_is_too_long_is_no_host_name() -> None:
    assert look_up(["a" * 64 + ".example"], 2)["a" * 64 + ".example"] != UNANSWERED
