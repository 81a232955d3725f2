"""Meetings for tests: several tasks on this machine, as threads or as processes."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tfdist.cluster import Cluster
from tfdist.cluster.secret import NO_SECRET, Secret
from tfdist.machine.ports import Reservation
from tfdist.rendezvous.agreement import Agreement, meet
from tfdist.rendezvous.greeting import Host, Newcomer
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection

__all__ = [
    "SOON",
    "Coming",
    "a_cluster",
    "a_handshake",
    "come",
    "hosting",
    "process",
    "speaking",
    "together",
]

SOON = 3.0
"""Seconds that "at once" may take on a busy machine; those who wait do so for 10 and more."""


@dataclass
class Coming:
    """One task at a meeting, in a thread of its own.

    Attributes:
        cluster: The cluster, as the task sees it.
        options: For `meet`.
        outcome: What `meet` returned or raised; None while it waits.
        seconds: How long that took.
        log: The lines that it logged.
    """

    cluster: Cluster
    options: dict[str, Any]
    outcome: Agreement | Exception | None = None
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        start = time.monotonic()
        try:
            self.outcome = meet(self.cluster, log=self.log.append, **self.options)
            self.outcome.close()
        except Exception as error:
            self.outcome = error
        self.seconds = time.monotonic() - start

    def join(self) -> Coming:
        """Waits for the end, 20 s at most."""
        self._thread.join(20)
        assert not self._thread.is_alive(), f"{self.cluster.task} still waits"
        return self

    @property
    def agreement(self) -> Agreement:
        """What it agreed on; fails the test where there is none."""
        assert isinstance(self.outcome, Agreement), repr(self.outcome)
        return self.outcome

    def failed(self, kind: type[Exception]) -> str:
        """Returns the message of the error that it must have ended by."""
        assert type(self.outcome) is kind, repr(self.outcome)
        return str(self.outcome)


@contextlib.contextmanager
def a_cluster(workers: int = 3, **counts: Any) -> Iterator[Cluster]:
    """A cluster on this machine whose ports stay reserved."""
    with Reservation(Cluster.task_count(workers, **counts)) as reservation:
        yield Cluster.local(workers, **counts, ports=reservation.ports)


def come(cluster: Cluster, task: str, **options: Any) -> Coming:
    """Lets one task come."""
    return Coming(cluster.with_task(task), {"timeout": 10.0, **options})


def together(cluster: Cluster, tasks: Iterable[str], **options: Any) -> list[Coming]:
    """Lets several tasks come at once and waits for the end of all."""
    return [one.join() for one in [come(cluster, task, **options) for task in tasks]]


def a_handshake(cluster: Cluster, task: str, token: str = "its own") -> Handshake:
    """What a task says of itself."""
    return Handshake(task, cluster.jobs, "", {}, 9.0, 9.0, token=token)


def speaking(
    connected: socket.socket, cluster: Cluster, task: str = "worker:1", secret: Secret = NO_SECRET
) -> Connection:
    """A newcomer's connection, of which the greeting is over."""
    return _greeted(Connection(connected, Newcomer(a_handshake(cluster, task), secret)))


def hosting(connected: socket.socket, cluster: Cluster, secret: Secret = NO_SECRET) -> Connection:
    """A chief's connection, of which the greeting is over."""
    chief = a_handshake(cluster, str(cluster.chief))
    return _greeted(Connection(connected, Host(chief, secret)))


def _greeted(connection: Connection) -> Connection:
    end = time.monotonic() + 10
    connection.flush()
    while connection.is_greeting:
        assert connection.receive() == []
        assert time.monotonic() < end
        time.sleep(0.005)
    return connection


ALONE = """
import json, sys
from tfdist.cluster import Cluster
from tfdist.rendezvous.agreement import meet
print("here", flush=True)
try:
    agreement = meet(Cluster.from_environment(), timeout=float(sys.argv[1]))
    answer = {"seed": agreement.seed, "tasks": list(map(str, agreement.tasks))}
except Exception as error:
    answer = {"error": type(error).__name__, "text": str(error)}
answer["tensorflow"] = "tensorflow" in sys.modules
print(json.dumps(answer), flush=True)
"""


def answer_of(running: subprocess.Popen[str]) -> dict[str, Any]:
    """What a process has printed, of which `communicate` would miss what `readline` has read."""
    assert running.stdout is not None
    answer: dict[str, Any] = json.loads(running.stdout.readline())
    return answer


@contextlib.contextmanager
def process(cluster: Cluster, task: str, timeout: float) -> Iterator[subprocess.Popen[str]]:
    """A process that meets the others and prints what came of it; killed at the end."""
    running = subprocess.Popen(
        [sys.executable, "-c", ALONE, str(timeout)],
        env={
            **os.environ,
            "TF_CONFIG": cluster.to_tf_config(task),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "here\n"
        yield running
    finally:
        running.kill()
        running.communicate(timeout=10)
