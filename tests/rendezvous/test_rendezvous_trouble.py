"""A rendezvous with people who do not belong together, do not belong there, or do not stay."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rendezvous.meeting import (
    SOON,
    a_cluster,
    answer_of,
    come,
    hosting,
    process,
    speaking,
    together,
)
from tfdist.cluster import Cluster
from tfdist.errors import (
    PortInUse,
    RendezvousError,
    RendezvousMismatch,
    RendezvousTimeout,
)
from tfdist.machine.ports import Reservation
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import MAGIC

pytestmark = pytest.mark.timeout(40)
THREE = ("worker:0", "worker:1", "worker:2")


def connect(cluster: Cluster) -> socket.socket:
    """Connects to the chief's address, waiting for it to listen."""
    host, _, port = cluster.address(cluster.chief).rpartition(":")
    for _ in range(100):
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((host, int(port)), timeout=5)
        time.sleep(0.05)
    raise AssertionError("the chief does not listen")


# Mismatches.


def test_another_cluster_spec_is_told_to_every_task_at_once() -> None:
    with a_cluster(3) as cluster:
        other = Cluster({"worker": (*cluster.jobs["worker"][:2], "127.0.0.1:41007")})
        right = [come(cluster, task) for task in THREE[:2]]
        wrong = come(other, "worker:1")
        said = {one.join().failed(RendezvousMismatch) for one in (*right, wrong)}
        (text,) = said
    assert "worker:1 (process " in text
    assert "was started with another cluster spec: it has worker = " in text
    assert '"127.0.0.1:41007"], worker:0 has worker = ["127.0.0.1:' in text
    assert text.endswith("start every task with the same cluster")
    assert all(one.seconds < SOON for one in (*right, wrong))


def test_a_task_that_comes_just_after_a_mismatch_hears_of_it_too() -> None:
    with a_cluster(3) as cluster:
        chief = come(cluster, "worker:0")
        wrong = come(cluster, "worker:2", kind="pipeline")
        wrong.join()
        late = come(cluster, "worker:1")
        said = {one.join().failed(RendezvousMismatch) for one in (chief, wrong, late)}
    assert len(said) == 1


def test_a_port_that_is_taken_is_told_to_every_task_at_once() -> None:
    with a_cluster(3) as cluster, Reservation(1) as other:
        (port,) = other.ports
        jobs = {"worker": (*cluster.jobs["worker"][:2], f"127.0.0.1:{port}")}
        taken = Cluster(jobs)
        with socket.socket() as somebody:
            other.close()
            somebody.bind(("127.0.0.1", port))
            somebody.listen()
            here = [come(taken, task) for task in THREE[:2]]
            refused = come(taken, "worker:2").join()
        own = refused.failed(PortInUse)
        said = {one.join().failed(RendezvousMismatch) for one in here}
    (text,) = said
    assert text.startswith("worker:2 (process ")
    assert text.endswith(f"cannot start: {own}")
    assert f"port {port} of worker:2" in own
    assert all(one.seconds < SOON for one in (*here, refused))


def test_a_port_that_is_taken_is_told_in_time_where_nobody_waits() -> None:
    with a_cluster(2) as cluster, socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        jobs = {"worker": (cluster.jobs["worker"][0], f"127.0.0.1:{somebody.getsockname()[1]}")}
        refused = come(Cluster(jobs), "worker:1").join()
        refused.failed(PortInUse)
    assert refused.seconds < SOON


def test_another_version_is_told_to_every_task() -> None:
    with a_cluster(3) as cluster:
        same = {"tensorflow": "2.21.0", "keras": "3.15.1"}
        came = [
            come(cluster, "worker:0", versions=same),
            come(cluster, "worker:1", versions=same),
            come(cluster, "worker:2", versions={**same, "keras": "3.12.0"}),
        ]
        (text,) = {one.join().failed(RendezvousMismatch) for one in came}
    assert "worker:2 (process " in text
    assert "runs keras 3.12.0, worker:0 runs keras 3.15.1; install the same version" in text


def test_a_version_that_one_side_does_not_tell_is_not_compared() -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0", versions={"keras": "3.15.1"})
        other = come(cluster, "worker:1", versions={"tfdist": "0.1"})
        assert chief.join().agreement.seed == other.join().agreement.seed


def test_another_strategy_is_told_to_every_task() -> None:
    with a_cluster(2) as cluster:
        came = [
            come(cluster, "worker:0", kind="multi_worker_mirrored"),
            come(cluster, "worker:1", kind="parameter_server"),
        ]
        (text,) = {one.join().failed(RendezvousMismatch) for one in came}
    assert "is to run the strategy 'parameter_server', worker:0 'multi_worker_mirrored'" in text


def test_two_processes_that_claim_one_task_are_told_to_every_task() -> None:
    with a_cluster(3) as cluster:
        came = together(cluster, ("worker:0", "worker:1", "worker:1"))
        (text,) = {one.failed(RendezvousMismatch) for one in came}
    assert text.startswith("two processes claim to be worker:1: process ")
    assert text.count(f"process {os.getpid()} on {socket.gethostname()}") == 2
    assert text.endswith("start every task once, each with its own index")


def test_two_processes_that_claim_to_be_the_chief_are_told_by_their_port() -> None:
    with a_cluster(2) as cluster:
        first = come(cluster, "worker:0")
        connect(cluster).close()
        second = come(cluster, "worker:0").join()
        text = second.failed(PortInUse)
        other = come(cluster, "worker:1").join()
        assert first.join().agreement.seed == other.agreement.seed
    assert f"of worker:0 ({cluster.address('worker:0')}) that is in use by process" in text


def test_a_stranger_with_the_chiefs_own_name_is_a_mismatch() -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        impostor = speaking(connect(cluster), cluster)
        impostor.send(Handshake("worker:0", cluster.jobs, "", {}, 9.0, 9.0).to_message())
        assert "two processes claim to be worker:0" in chief.join().failed(RendezvousMismatch)
        impostor.close()


# Something else at the chief's address.


class _Silent(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Says nothing on stderr."""


@contextlib.contextmanager
def serving(server: http.server.HTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_a_web_server_at_the_chiefs_address_is_told_as_such() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Silent)
    chief = f"127.0.0.1:{server.server_address[1]}"
    with Reservation(1) as reservation, serving(server):
        cluster = Cluster({"worker": (chief, f"127.0.0.1:{reservation.ports[0]}")})
        came = come(cluster, "worker:1", timeout=15.0).join()
    text = came.failed(RendezvousError)
    assert text.startswith("a web server, which said ")
    assert f"at the address of worker:0, {chief}, where a tfdist task should be; end it" in text
    assert came.seconds < 5  # a server that is about to end gets a moment to do so


def test_a_server_that_says_nothing_is_told_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Reservation(1) as reservation:
        chief = f"127.0.0.1:{server.getsockname()[1]}"
        cluster = Cluster({"worker": (chief, f"127.0.0.1:{reservation.ports[0]}")})
        came = come(cluster, "worker:1", timeout=1.0).join()
    assert f"worker:0 ({chief}) did not answer within 1 s (it takes connections and says " in (
        came.failed(RendezvousTimeout)
    )
    assert came.seconds < 1 + SOON


def test_a_chief_that_stops_before_its_last_word_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Reservation(1) as reservation:
        chief = f"127.0.0.1:{server.getsockname()[1]}"
        cluster = Cluster({"worker": (chief, f"127.0.0.1:{reservation.ports[0]}")})
        other = come(cluster, "worker:1", timeout=1.0)
        connection = hosting(server.accept()[0], cluster)
        connection.send({"say": "status", "round": 1, "missing": []})
        text = other.join().failed(RendezvousTimeout)
        connection.close()
    assert text.startswith(f"worker:0 ({chief}) did not answer within 1 s (it takes connections")
    assert other.seconds < 1 + SOON


def test_a_server_that_goes_away_in_time_is_forgiven() -> None:
    with Reservation(2) as reservation:
        cluster = Cluster.local(2, ports=reservation.ports)
        server = http.server.HTTPServer(("127.0.0.1", reservation.ports[0]), _Silent, False)
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.server_bind()
        server.server_activate()
        with serving(server):
            other = come(cluster, "worker:1")
            time.sleep(0.5)
        time.sleep(3.5)  # longer than one that stays is borne with
        chief = come(cluster, "worker:0").join()
        assert chief.agreement.seed == other.join().agreement.seed


# Somebody else at the chief's port.


def ignored(log: list[str]) -> list[str]:
    """The lines on strangers; on a busy machine there may be others, on the waiting."""
    return [line for line in log if line.startswith("ignored")]


GARBAGE = {
    "bytes": b"\x00\x01\x02\xff" * 50,
    "a web request": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a huge message": MAGIC + b"\x7f\xff\xff\xff" + b"x" * 1000,
    "no JSON": MAGIC + b"\x00\x00\x00\x03abc",
    "no hello": MAGIC + b'\x00\x00\x00\x0d{"say": "go"}',
    "a task that is none of ours": b"",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_at_the_chiefs_port_is_logged_and_ignored(data: bytes) -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        with connect(cluster) as stranger:
            if data:
                stranger.sendall(data)
            else:
                handshake = Handshake("worker:9", cluster.jobs, "", {}, 9.0, 9.0)
                speaking(stranger, cluster).send(handshake.to_message())
            time.sleep(0.2)
            other = come(cluster, "worker:1").join()
        assert chief.join().agreement.seed == other.agreement.seed
    (line,) = ignored(chief.log)
    assert line.startswith("ignored a connection from 127.0.0.1:")


def test_connections_that_say_nothing_do_not_break_the_meeting() -> None:
    with a_cluster(2) as cluster, contextlib.ExitStack() as stack:
        chief = come(cluster, "worker:0")
        for _ in range(300):  # more than the chief keeps
            stack.enter_context(connect(cluster))
        other = come(cluster, "worker:1").join()
        assert chief.join().agreement.seed == other.agreement.seed
    assert ignored(chief.log) == []


def test_a_flood_of_garbage_is_logged_once_for_each_host() -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        for _ in range(30):
            with connect(cluster) as stranger:
                stranger.sendall(b"garbage")
        other = come(cluster, "worker:1").join()
        assert chief.join().agreement.seed == other.agreement.seed
    assert len(ignored(chief.log)) == 1


# Those who do not stay.


def test_a_task_that_dies_while_waiting_is_missing_again() -> None:
    with a_cluster(4) as cluster:
        came = [come(cluster, task, timeout=3.0) for task in ("worker:0", "worker:2")]
        with process(cluster, "worker:1", 10) as mortal:
            time.sleep(0.5)
            mortal.send_signal(signal.SIGKILL)
            late = f"worker:1 ({cluster.address('worker:1')}) and worker:3 "
            for one in came:
                assert one.join().failed(RendezvousTimeout).startswith(late)
                assert 2.7 < one.seconds < 3 + SOON


def test_a_task_that_dies_can_come_again() -> None:
    with a_cluster(3) as cluster:
        chief = come(cluster, "worker:0")
        with process(cluster, "worker:1", 10) as mortal:
            time.sleep(0.5)
            mortal.send_signal(signal.SIGKILL)
            mortal.wait(5)
        others = [come(cluster, task) for task in THREE[1:]]
        assert {one.join().agreement.seed for one in others} == {chief.join().agreement.seed}


def test_a_task_that_comes_just_in_time_is_in_time() -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0", timeout=2.0)
        connection = speaking(connect(cluster), cluster)
        time.sleep(1.2)
        connection.send(Handshake("worker:1", cluster.jobs, "", {}, 9.0, 9.0).to_message())
        time.sleep(0.9)  # its answer comes after the deadline
        rounds = [message["round"] for message in connection.receive()]
        connection.send({"say": "here", "round": max(rounds)})
        assert chief.join().agreement.tasks == cluster.tasks
        connection.close()


def test_a_chief_that_dies_can_come_again() -> None:
    with a_cluster(3) as cluster:
        with process(cluster, "worker:0", 10) as mortal:
            early = come(cluster, "worker:1")
            time.sleep(0.5)
            mortal.send_signal(signal.SIGKILL)
            mortal.wait(5)
        others = [come(cluster, task) for task in ("worker:0", "worker:2")]
        assert {one.join().agreement.seed for one in others} == {early.join().agreement.seed}


def test_a_chief_that_dies_and_stays_away_is_named() -> None:
    with a_cluster(3) as cluster, process(cluster, "worker:0", 10) as mortal:
        other = come(cluster, "worker:1", timeout=1.5)
        time.sleep(0.5)
        mortal.send_signal(signal.SIGKILL)
        text = other.join().failed(RendezvousTimeout)
    assert text.startswith(f"worker:0 ({cluster.address('worker:0')}) did not answer within 1.5 s")
    assert other.seconds < 1.5 + SOON


def test_a_process_that_has_stopped_is_named() -> None:
    with a_cluster(3) as cluster, process(cluster, "worker:1", 20) as stopped:
        chief = come(cluster, "worker:0", timeout=3.0)
        time.sleep(1.0)
        stopped.send_signal(signal.SIGSTOP)
        other = come(cluster, "worker:2", timeout=3.0)
        said = {one.join().failed(RendezvousTimeout) for one in (chief, other)}
        stopped.send_signal(signal.SIGCONT)
        answer = answer_of(stopped)
    assert len(said) == 1
    assert f"worker:1 ({cluster.address('worker:1')}) did not answer within 3 s (all came)" in (
        said.pop()
    )
    assert answer["error"] == "RendezvousTimeout"


def test_real_processes_fail_within_a_second_after_the_deadline() -> None:
    with a_cluster(3) as cluster, contextlib.ExitStack() as stack:
        start = time.monotonic()
        running = [stack.enter_context(process(cluster, task, 2)) for task in THREE[::2]]
        answers = [answer_of(one) for one in running]
        taken = time.monotonic() - start
    for answer in answers:
        assert answer["error"] == "RendezvousTimeout"
        assert f"worker:1 ({cluster.address('worker:1')}) did not come within 2 s" in answer["text"]
    assert taken < 2 + 1 + 3  # and the time to start Python
