"""The processes of `many_tasks`: the chief, or many of the other tasks.

    python -m tests.benchmarks.many_tasks_job SPEC TIMEOUT 0             the chief
    python -m tests.benchmarks.many_tasks_job SPEC TIMEOUT 1:400:4       worker:1, worker:5, ...

Each says "ready", begins at a line on its standard input, and prints in the end what came of it.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
from collections import Counter
from unittest import mock

from tfdist.cluster import Cluster
from tfdist.cluster.secret import Secret
from tfdist.errors import RendezvousError
from tfdist.rendezvous.agreement import meet
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection, Gone, Message
from tfdist.rendezvous.participant import Participant

SECRET = Secret("a word of sixteen characters")
_LATE = 20.0


def main(spec: str, timeout: float, which: str) -> None:
    cluster = Cluster.from_file(spec)
    tasks = range(*map(int, which.split(":"))) if ":" in which else None
    told = _Told()
    print("ready", flush=True)
    sys.stdin.readline()
    begin = time.monotonic()
    if tasks is None:
        _meet_as_chief(cluster, timeout, told)
    else:
        _meet_as_many(cluster, timeout, tasks, told)
    found = {
        "seconds": time.monotonic() - begin,
        "processor": sum(os.times()[:2]),
        "outcomes": told.outcomes,
        "lines": told.lines[:9],
        "received": told.received,
    }
    print(json.dumps(found), flush=True)
    sys.stdin.readline()  # the chief's last word must not be lost with this process


class _Told:
    """What came of the tasks of this process, and how many messages it was told."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.lines: list[str] = []
        self.received = 0

    def failed(self, error: RendezvousError) -> None:
        self.outcomes[f"{type(error).__name__}: {error}"] += 1


def _meet_as_chief(cluster: Cluster, timeout: float, told: _Told) -> None:
    receive = Connection.receive

    def counted(connection: Connection) -> list[Message]:
        found = receive(connection)
        told.received += len(found)
        return found

    mock.patch.object(Connection, "receive", counted).start()
    chief = cluster.with_task(cluster.chief)
    try:
        meet(chief, timeout=timeout, secret=SECRET, log=told.lines.append).close()
        told.outcomes["met"] += 1
    except RendezvousError as error:
        told.failed(error)


def _meet_as_many(cluster: Cluster, timeout: float, tasks: range, told: _Told) -> None:
    """All of them in one thread: what a task does is a participant's, only the waiting is not."""
    end = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        waiting = {_Light(cluster, f"worker:{n}", timeout, end, told) for n in tasks}
        for one in waiting:
            one.come(selector)
        while waiting and time.monotonic() < end + _LATE:
            for key, _ in selector.select(0.5):
                if key.data.hear(selector):
                    waiting.discard(key.data)
    told.outcomes["without a word"] += len(waiting)


class _Light:
    """One task, without a process of its own."""

    def __init__(
        self, cluster: Cluster, name: str, timeout: float, end: float, told: _Told
    ) -> None:
        self._handshake = Handshake(name, cluster.jobs, "", {}, timeout, timeout)
        self._task = Participant(cluster, self._handshake, end, told.lines.append, secret=SECRET)
        self._told = told
        self._connection: Connection | None = None

    def come(self, selector: selectors.BaseSelector) -> None:
        while self._connection is None:  # the chief may not listen yet
            self._connection = self._task._connect()
            if self._connection is None:
                time.sleep(0.05)
        self._connection.send(self._handshake.to_message(whole=False))
        selector.register(self._connection.socket, selectors.EVENT_READ, self)

    def hear(self, selector: selectors.BaseSelector) -> bool:
        """Takes what has come; returns whether it was the chief's last word."""
        assert self._connection is not None
        try:
            for message in self._connection.receive():
                if self._task._obey(self._connection, message) is not None:
                    self._told.outcomes["met"] += 1
                    self._leave(selector)
                    return True
        except RendezvousError as error:
            self._told.failed(error)
            self._leave(selector)
            return True
        except Gone:
            self._told.outcomes["came again"] += 1
            self._leave(selector)
            self.come(selector)
        return False

    def _leave(self, selector: selectors.BaseSelector) -> None:
        if self._connection is not None:
            selector.unregister(self._connection.socket)
            self._connection.close()
            self._connection = None


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
