"""How the tasks of a job in step stay in touch, beside TensorFlow, from the rendezvous on.

    worker:1 ──where I stand, each second──► │ worker:0 ──where all stand, who is silent──► all

The connections are those of the rendezvous. Nothing is asked of TensorFlow, which waits for a lost
task in silence, and while it does lets no other thread run in some of its calls.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from tfdist import process
from tfdist.cluster.address import Address
from tfdist.cluster.spec import Cluster
from tfdist.cluster.task import Task
from tfdist.machine.standstill import Standstill
from tfdist.rendezvous.forks import leave_to_the_parent
from tfdist.rendezvous.messages import Connection, Gone, Message, Stranger

__all__ = ["InTouch", "Standing"]

_BEAT_SECONDS = 1.0
_MOST_TOLD = 8
_SPEAK_SECONDS = 0.0001  # to one
_FAREWELL_SECONDS = 0.5
_WRONG_FORM = (AttributeError, KeyError, TypeError, ValueError)  # of what was told


@dataclass(frozen=True)
class Standing:
    """Where a task stands still.

    Attributes:
        task: Which.
        phase: As "in its train steps".
        alone: Whether it waits for no other task there.
        where: The place in the user's own code, as " (train.py, line 3, in call)"; "" if unknown.
        seconds: For how long.
    """

    task: str
    phase: str
    alone: bool
    where: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.task}, which is {self.phase} for {self.seconds:.0f} s{self.where}"


class InTouch:
    """One task's side; a thread of its own keeps it. Its methods may be called from any thread.

    Args:
        cluster: The job, with this process's task.
        connections: On the chief to each other task, elsewhere to the chief; closed here.
    """

    def __init__(self, cluster: Cluster, connections: Mapping[Task, Connection]) -> None:
        assert cluster.task is not None
        self._cluster = cluster
        self._task = str(cluster.task)
        others = cluster.tasks_that_meet
        self._others = [str(task) for task in others if task != cluster.task]
        self._is_chief = cluster.is_chief
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._connections = {str(task): one for task, one in connections.items()}
        now = time.monotonic()
        self._heard = dict.fromkeys(self._connections, now)
        self._own: Standing | None = None
        self._calls = 0
        # Of each task: where it stands, how many calls it has begun, and how it has ended.
        self._standing: dict[str, Standing] = {}
        self._begun: dict[str, int] = {}
        self._ended: dict[str, str] = {}
        self._gone: dict[str, None] = {}
        self._gone_told = 0  # how many of them the chief has told of
        self._silent: dict[str, float] = {}  # by the chief's word
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        for name, connection in self._connections.items():
            connection.keep_alive(process.stall_timeout())
            self._selector.register(connection.socket, selectors.EVENT_READ, name)
        self._closing = False
        leave_to_the_parent(self)
        self._thread = threading.Thread(target=self._run, name="tfdist-in-touch", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ what this task says

    def stand(self, standing: Standing | None) -> None:
        """Notes where this task stands still; None where it moves."""
        with self._lock:
            self._own = standing

    def begin_call(self) -> None:
        """Notes that this task begins a call that all must make."""
        with self._lock:
            self._calls += 1
        self._nudge()

    def close(self, reason: str) -> None:
        """Says the last word.

        Args:
            reason: Why this task ends badly; "" where it ends well.
        """
        if self._pid != os.getpid():  # a forked child has no part in this
            return
        with self._lock:
            self._ended[self._task] = reason[:1000]
            self._closing = True
        self._nudge()
        self._thread.join(2.0)

    # ------------------------------------------------------------ what it knows of the others

    def silent(self, longest: float) -> list[tuple[str, float]]:
        """The tasks that have said nothing for so long but are not known to be gone, in seconds."""
        now = time.monotonic()
        with self._lock:
            quiet = {**self._silent, **{name: now - at for name, at in self._heard.items()}}
            return [(n, s) for n, s in quiet.items() if s > longest and n not in self._gone]

    def address(self, task: str) -> Address:
        """At which a task's TensorFlow listens."""
        return Address.parse(self._cluster.address(task))

    def absent(self) -> list[str]:
        """The tasks that have gone."""
        with self._lock:
            return list(self._gone)

    def ended(self) -> dict[str, str]:
        """The tasks that have said how they ended: why badly, "" where well."""
        with self._lock:
            return {name: why for name, why in self._ended.items() if name != self._task}

    def standing(self) -> list[Standing]:
        """Where other tasks stand still."""
        with self._lock:
            return [one for name, one in self._standing.items() if name not in self._gone]

    def not_here_yet(self) -> list[str]:
        """The tasks that have not begun as many calls as this one."""
        with self._lock:
            begun = self._begun.items()
            return [name for name, calls in begun if calls < self._calls and name not in self._gone]

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        standstill = Standstill()
        due = spoken = 0.0
        try:
            while self._connections:
                for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                    if key.data is None:
                        # At once where they are few; of thousands, all would have news in turn.
                        due = min(due, spoken + _SPEAK_SECONDS * len(self._connections))
                        with contextlib.suppress(OSError):
                            self._woken.recv(64)
                    else:
                        self._hear(key.data)
                now = time.monotonic()
                if standstill.is_over():
                    with self._lock:
                        self._heard = dict.fromkeys(self._heard, now)
                        self._silent.clear()
                closing = self._closing  # looked at first: what is said then is the last word
                if closing or now >= due:
                    due, spoken = now + _BEAT_SECONDS, now
                    self._speak(now)
                if closing:
                    self._wait_until_they_close(now + _FAREWELL_SECONDS)
                    return
        finally:
            self.shut()

    def _wait_until_they_close(self, until: float) -> None:
        """Lets the others close first.

        What they have sent is read until then, or the kernel would take back this task's last word;
        and no connection lingers (TIME_WAIT) at the chief's port.
        """
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_WR)
        while self._connections and time.monotonic() < until:
            for key, _ in self._selector.select(0.05):
                if key.data is not None:
                    self._hear(key.data)

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            self._wake.send(b"!")

    def _speak(self, now: float) -> None:
        with self._lock:
            message: Message = {
                "say": "touch",
                "calls": self._calls,
                "standing": [astuple(one) for one in [self._own] if one is not None],
                "ended": {self._task: self._ended[self._task]} if self._closing else {},
            }
            if self._is_chief:
                # Who waits for nobody first: these are waited for.
                others = sorted(self._standing.values(), key=lambda one: not one.alone)
                message["standing"] += [astuple(one) for one in others[:_MOST_TOLD]]
                begun = self._begun.items()  # of most tasks the chief's own number is theirs
                behind = sorted((n, name) for name, n in begun if n != self._calls)
                message["begun"] = {name: n for n, name in behind[:_MOST_TOLD]}
                message["ended"] = {n: self._ended[n] for n in list(self._ended)[:_MOST_TOLD]}
                message["gone"] = list(self._gone)[self._gone_told :]
                self._gone_told = len(self._gone)
                silent = sorted((at, name) for name, at in self._heard.items() if now - at > 2.0)
                message["silent"] = {name: now - at for at, name in silent[:_MOST_TOLD]}
        for name, connection in list(self._connections.items()):
            try:
                connection.send(message)
            except Gone:
                self._lose(name)

    def _hear(self, name: str) -> None:
        try:
            for message in self._connections[name].receive():
                self._note(name, message)
        except (Gone, Stranger, *_WRONG_FORM):
            self._lose(name)

    def _note(self, name: str, message: Message) -> None:
        if message.get("say") != "touch":
            return
        told = [_standing(one) for one in message["standing"]]
        ended = {_plain(task): _plain(why, 1000) for task, why in message["ended"].items()}
        with self._lock:
            self._heard[name] = time.monotonic()
            calls = int(message["calls"])
            if name not in ended:
                self._begun[name] = calls
            if self._is_chief:
                self._standing.pop(name, None)
            else:
                self._standing.clear()
                self._begun = dict.fromkeys(self._others, calls)
                self._begun |= {_plain(task): int(n) for task, n in message["begun"].items()}
                self._begun.pop(self._task, None)
                self._silent = {_plain(t): float(s) for t, s in message["silent"].items()}
                self._silent.pop(self._task, None)
                self._gone |= dict.fromkeys(map(_plain, message["gone"]))
            self._standing |= {one.task: one for one in told if one.task != self._task}
            self._ended |= ended
        if self._is_chief and ended:
            self._nudge()  # the others hear it at once
        elif name in ended:
            self._lose(name)

    def _lose(self, name: str) -> None:
        connection = self._connections.pop(name, None)
        if connection is None:
            return
        with self._lock:
            self._heard.pop(name, None)
            self._standing.pop(name, None)
            self._gone[name] = None
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        connection.close()

    def shut(self) -> None:
        """Closes every socket, here and in a forked child."""
        for connection in self._connections.values():
            connection.close()
        for one in (self._wake, self._woken):
            one.close()
        self._selector.close()


def _standing(told: Any) -> Standing:
    task, phase, alone, where, seconds = told
    return Standing(_plain(task), _plain(phase), bool(alone), _plain(where), float(seconds))


def _plain(value: Any, longest: int = 200) -> str:
    """Makes what another task has told fit for a line of a log."""
    return "".join(char if char.isprintable() else "?" for char in str(value)[:longest])
