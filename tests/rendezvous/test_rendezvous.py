"""The tasks of a job meet."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import pytest

from tests.machine.names import Names
from tests.rendezvous.meeting import SOON, a_cluster, answer_of, come, process, speaking, together
from tfdist.cluster import Cluster, Task
from tfdist.errors import ClusterError, RendezvousTimeout
from tfdist.machine.ports import Reservation, busy
from tfdist.rendezvous.agreement import meet
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import MAGIC
from tfdist.rendezvous.wording import WaitingLog, seconds

pytestmark = pytest.mark.timeout(40)
THREE = ("worker:0", "worker:1", "worker:2")


def test_all_tasks_agree_on_one_seed_and_on_who_is_here() -> None:
    with a_cluster(2, ps=1) as cluster:
        came = together(cluster, ("chief:0", "worker:0", "worker:1", "ps:0"))
        seeds = {one.agreement.seed for one in came}
    assert len(seeds) == 1
    assert 0 <= seeds.pop() < 2**31
    for one in came:
        assert one.agreement.tasks == cluster.tasks
        assert 0 < one.agreement.waited < 5


def test_every_meeting_has_another_seed() -> None:
    with a_cluster(2) as cluster:
        seeds = {together(cluster, THREE[:2])[0].agreement.seed for _ in range(3)}
    assert len(seeds) == 3


def test_processes_meet_without_tensorflow() -> None:
    with a_cluster(3) as cluster, contextlib.ExitStack() as stack:
        running = [stack.enter_context(process(cluster, task, 10)) for task in THREE]
        answers = [answer_of(one) for one in running]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["tasks"] == list(THREE)
    assert not answers[0]["tensorflow"]


def test_many_tasks_meet() -> None:
    with a_cluster(40) as cluster:
        came = together(cluster, map(str, cluster.tasks))
    assert len({one.agreement.seed for one in came}) == 1


def test_the_evaluator_is_not_waited_for_and_does_not_come() -> None:
    with a_cluster(2, evaluator=True) as cluster:
        came = together(cluster, THREE[:2])
        assert came[0].agreement.tasks == (Task("worker", 0), Task("worker", 1))
        with pytest.raises(ClusterError, match="evaluator:0, which works beside the others"):
            meet(cluster.with_task("evaluator"))


def test_a_job_of_one_task_meets_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # in use, which does not matter: no port is opened
        agreement = meet(Cluster({"worker": (f"127.0.0.1:{port}",)}, Task("worker", 0)))
    assert agreement.tasks == (Task("worker", 0),)


def test_nothing_is_left_behind() -> None:
    threads = threading.active_count()
    with a_cluster(2) as cluster:
        together(cluster, THREE[:2])
        ports = [int(cluster.address(task).rpartition(":")[2]) for task in THREE[:2]]
        assert [busy(port) for port in ports] == [None, None]
        for port in ports:  # nobody listens any more
            with socket.socket() as client, pytest.raises(ConnectionRefusedError):
                client.connect(("127.0.0.1", port))
    assert threading.active_count() == threads


def test_the_port_is_held_until_the_agreement_is_closed() -> None:
    with Reservation(2) as reservation:
        cluster = Cluster.local(2, ports=reservation.ports)
    other = come(cluster, "worker:1")
    with meet(cluster.with_task("worker:0"), timeout=10) as agreement:
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind(("127.0.0.1", reservation.ports[0]))
        assert busy(reservation.ports[0]) is None  # and yet TensorFlow may have it
    other.join()
    assert agreement.tasks
    socket.create_server(("127.0.0.1", reservation.ports[0])).close()


@pytest.mark.parametrize("setting", ["0", "1"])
def test_tasks_meet_with_and_without_shared_ports(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_GRPC_REUSE_PORT", setting)
    with a_cluster(2) as cluster:
        came = together(cluster, THREE[:2])
    assert came[0].agreement.seed == came[1].agreement.seed


def test_tasks_meet_at_ports_that_nobody_reserved() -> None:
    with Reservation(2) as reservation:
        cluster = Cluster.local(2, ports=reservation.ports)
    came = together(cluster, THREE[:2])
    assert came[0].agreement.seed == came[1].agreement.seed


@pytest.mark.parametrize("host", ["localhost", "[::1]", "0.0.0.0"])
def test_tasks_meet_by_name_and_over_ipv6(host: str) -> None:
    with Reservation(2) as reservation:
        cluster = Cluster({"worker": tuple(f"{host}:{port}" for port in reservation.ports)})
        came = together(cluster, THREE[:2])
    assert came[0].agreement.seed == came[1].agreement.seed


def test_tasks_meet_at_a_host_name_that_is_not_the_loopback(names: Names) -> None:
    names({"node-1": "127.0.0.1"})  # so the chief listens on all interfaces
    with Reservation(2) as reservation:
        cluster = Cluster({"worker": tuple(f"node-1:{port}" for port in reservation.ports)})
        came = together(cluster, THREE[:2])
    assert came[0].agreement.seed == came[1].agreement.seed


def test_two_spellings_of_one_cluster_are_the_same() -> None:
    with Reservation(2) as reservation:
        first, second = reservation.ports
        chief = come(Cluster.local(2, ports=reservation.ports), "worker:0")
        other = come(Cluster({"worker": (f"localhost:{first}", f"127.0.0.1:{second}")}), "worker:1")
        assert chief.join().agreement.seed == other.join().agreement.seed


def test_a_late_chief_is_waited_for() -> None:
    with a_cluster(3) as cluster:
        early = [come(cluster, task) for task in THREE[1:]]
        time.sleep(1.2)
        chief = come(cluster, "worker:0").join()
        assert {one.join().agreement.seed for one in early} == {chief.agreement.seed}
    assert chief.seconds < SOON


def test_a_name_that_appears_late_is_waited_for(names: Names) -> None:
    names({})
    with Reservation(2) as reservation:
        cluster = Cluster({"worker": tuple(f"node-1:{port}" for port in reservation.ports)})
        chief, other = come(cluster, "worker:0"), come(cluster, "worker:1")
        time.sleep(0.5)
        names({"node-1": "127.0.0.1"})
        assert chief.join().agreement.seed == other.join().agreement.seed


# Whoever is missing.


@pytest.mark.parametrize("missing", ["worker:1", "worker:2"])
def test_at_the_deadline_every_task_fails_at_once_and_names_who_is_missing(missing: str) -> None:
    with a_cluster(3) as cluster:
        came = together(cluster, [task for task in THREE if task != missing], timeout=2.5)
    for one in came:
        assert one.failed(RendezvousTimeout) == (
            f"{missing} ({cluster.address(missing)}) did not come within 2.5 s (2 of 3 tasks "
            "came); start it, see in its log what went wrong, or give the rendezvous a longer "
            "timeout"
        )
        # Whoever came first has the first deadline, and it is the deadline of all.
        assert 2.2 < one.seconds < 2.5 + SOON
        assert one.log == [f"waiting for {missing} ({cluster.address(missing)}), 2 s of 2.5 s"]


def test_all_who_are_missing_are_named() -> None:
    with a_cluster(4) as cluster:
        came = together(cluster, ("worker:0", "worker:2"), timeout=1.0)
    for one in came:
        assert one.failed(RendezvousTimeout).startswith(
            f"worker:1 ({cluster.address('worker:1')}) and worker:3 "
            f"({cluster.address('worker:3')}) did not come within 1 s (2 of 4 tasks came); start "
            "them, see in their logs"
        )


def test_a_missing_chief_is_named_with_the_reason() -> None:
    with a_cluster(3) as cluster:
        came = together(cluster, THREE[1:], timeout=2.5)
    for one in came:
        assert one.failed(RendezvousTimeout).startswith(
            f"worker:0 ({cluster.address('worker:0')}) did not answer within 2.5 s (connection "
            "refused); start it"
        )
        assert 2.5 <= one.seconds < 2.5 + SOON
        assert one.log == [f"waiting for worker:0 ({cluster.address('worker:0')}), 2 s of 2.5 s"]


def test_a_chief_that_does_not_resolve_is_named_with_the_reason(names: Names) -> None:
    names({"node-2": "127.0.0.1"})
    with Reservation(1) as reservation:
        cluster = Cluster({"worker": ("node-1:41001", f"node-2:{reservation.ports[0]}")})
        came = come(cluster, "worker:1", timeout=0.5).join()
    assert "worker:0 (node-1:41001) did not answer within 0.5 s (name or service not known)" in (
        came.failed(RendezvousTimeout)
    )


def test_a_name_server_that_hangs_does_not_stretch_the_deadline(names: Names) -> None:
    names({"node-1": None})
    with Reservation(1) as reservation:
        cluster = Cluster({"worker": ("node-1:41001", f"127.0.0.1:{reservation.ports[0]}")})
        came = come(cluster, "worker:1", timeout=0.5).join()
    assert came.seconds < 0.5 + SOON
    assert "no answer from the name server" in came.failed(RendezvousTimeout)


def test_the_first_deadline_ends_the_wait_of_all() -> None:
    with a_cluster(3) as cluster:
        patient = come(cluster, "worker:0", timeout=15.0)
        hasty = come(cluster, "worker:1", timeout=1.0)
        said = {one.join().failed(RendezvousTimeout) for one in (patient, hasty)}
    assert len(said) == 1
    assert f"worker:2 ({cluster.address('worker:2')}) did not come within 1 s" in said.pop()
    assert patient.seconds < 1 + SOON


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_is_no_time_is_refused(timeout: float) -> None:
    with pytest.raises(ClusterError, match="rendezvous timeout of"):
        meet(Cluster({"worker": ("a:1", "b:1")}, Task("worker", 0)), timeout=timeout)


def test_a_launcher_cannot_meet() -> None:
    with pytest.raises(ClusterError, match="cluster without a task"):
        meet(Cluster({"worker": ("a:1", "b:1")}))


# What is said meanwhile, and other small parts.


def test_the_wait_is_told_after_2_s_and_then_every_10_s(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    lines: list[str] = []
    cluster = Cluster({"worker": ("a:1", "b:1", "c:1")})
    waiting = WaitingLog(lines.append, cluster, 120.0)
    waiting._start = clock[0]
    for _ in range(62):
        waiting.tick(cluster.tasks[1:])
        clock[0] += 0.5
    names = "waiting for worker:1 (b:1) and worker:2 (c:1)"
    assert lines == [f"{names}, {after} of 120 s" for after in ("2 s", "10 s", "20 s", "30 s")]
    clock[0] += 100
    waiting.tick([])
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("duration", "text"), [(0.25, "0.2 s"), (1, "1 s"), (2.54, "2.5 s"), (119.6, "120 s")]
)
def test_seconds_are_written_in_full(duration: float, text: str) -> None:
    assert seconds(duration) == text


def test_a_hello_that_stays_open_without_answers_is_not_enough() -> None:
    """All came, but one has stopped: it is named, and nobody goes on without it."""
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0", timeout=1.5)
        time.sleep(0.3)
        host, _, port = cluster.address("worker:0").rpartition(":")
        silent = speaking(socket.create_connection((host, int(port))), cluster)
        silent.send(Handshake("worker:1", cluster.jobs, "", {}, 9.0, 9.0).to_message())
        said = chief.join().failed(RendezvousTimeout)
        silent.close()
    assert (
        f"worker:1 ({cluster.address('worker:1')}) did not answer within 1.5 s (all came)" in said
    )


def test_a_frame_in_two_pieces_is_no_stranger() -> None:
    with a_cluster(2) as cluster:
        chief = come(cluster, "worker:0")
        time.sleep(0.2)
        host, _, port = cluster.address("worker:0").rpartition(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(MAGIC[:5])
            time.sleep(0.3)
            slow.sendall(MAGIC[5:])
            other = come(cluster, "worker:1").join()
        assert chief.join().agreement.seed == other.agreement.seed
    assert not any("ignored" in line for line in chief.log)


def test_options_are_keywords() -> None:
    anything: Any = meet
    with pytest.raises(TypeError):
        anything(Cluster({"worker": ("a:1",)}, Task("worker", 0)), 5.0)
