"""A silent worker of parameter servers is dropped: killed where it is that task of that job."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tfdist.cluster import Cluster, Task
from tfdist.rendezvous import dropping
from tfdist.rendezvous.handshake import Handshake

WORKER, PS = Task("worker", 0), Task("ps", 0)
CLUSTER = Cluster({"chief": ("127.0.0.1:1",), "worker": ("127.0.0.1:2",), "ps": ("127.0.0.1:3",)})

Sleeper = Callable[[Task], subprocess.Popen[bytes]]


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    started: list[subprocess.Popen[bytes]] = []

    def start(task: Task) -> subprocess.Popen[bytes]:
        environ = {**os.environ, "TF_CONFIG": CLUSTER.to_tf_config(task)}
        command = [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(60)"]
        one = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE)
        started.append(one)
        assert one.stdout is not None
        one.stdout.readline()
        return one

    yield start
    for one in started:
        one.kill()
        one.communicate()


def handshake(pid: int, host: str | None = None) -> Handshake:
    own = socket.gethostname() if host is None else host
    return Handshake("worker:0", CLUSTER.jobs, "parameter_server", {}, 1.0, 1.0, pid, own)


def test_a_stopped_worker_of_this_machine_is_killed(sleeper: Sleeper) -> None:
    one = sleeper(WORKER)
    one.send_signal(signal.SIGSTOP)
    said = dropping.drop(WORKER, handshake(one.pid), CLUSTER)
    assert one.wait(5) == -signal.SIGKILL
    assert "worker:0 is dropped" in said
    assert "was killed" in said


@pytest.mark.parametrize("host", [None, "another"])
def test_nobody_else_is_killed(sleeper: Sleeper, host: str | None) -> None:
    one = sleeper(PS if host is None else WORKER)
    said = dropping.drop(WORKER, handshake(one.pid, host), CLUSTER)
    assert "the connections to it were ended" in said
    assert one.poll() is None


def test_a_worker_that_is_gone_leaves_nobody_to_kill(sleeper: Sleeper) -> None:
    one = sleeper(WORKER)
    one.kill()
    one.wait()
    assert "the connections to it were ended" in dropping.drop(WORKER, handshake(one.pid), CLUSTER)


def test_only_silent_workers_beside_parameter_servers_are_overdue() -> None:
    heard = {WORKER: 0.0, PS: 0.0, Task("worker", 1): 95.0}
    assert dropping.overdue(CLUSTER, heard, 100.0) == [WORKER]
    assert dropping.overdue(Cluster({"chief": ("a:1",), "worker": ("b:1",)}), heard, 100.0) == []


def test_the_stall_timeout_shortens_the_silence_that_is_borne(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert dropping.overdue(CLUSTER, {WORKER: 0.0}, 14.0) == []
    monkeypatch.setenv("TFDIST_STALL_TIMEOUT", "10")
    assert dropping.overdue(CLUSTER, {WORKER: 0.0}, 14.0) == [WORKER]
    monkeypatch.setenv("TFDIST_STALL_TIMEOUT", "1")
    assert dropping.overdue(CLUSTER, {WORKER: 0.0}, 7.0) == []
