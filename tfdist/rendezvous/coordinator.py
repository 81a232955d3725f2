"""The chief's side of a rendezvous: wait for all, compare, and give every task the same answer."""

from __future__ import annotations

import secrets
import selectors
import socket
import time
from dataclasses import dataclass, field

from tfdist.cluster.secret import NO_SECRET, Secret
from tfdist.cluster.spec import Cluster
from tfdist.cluster.task import Task
from tfdist.errors import RendezvousMismatch, RendezvousTimeout
from tfdist.rendezvous.cards import Holding, holding_of
from tfdist.rendezvous.greeting import Host
from tfdist.rendezvous.guests import StrangerLog, crowded_out
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection, Gone, Message, Refusal, Stranger
from tfdist.rendezvous.wording import Log, WaitingLog, late_text

__all__ = ["Coordinator"]

TICK = 1.0
"""How often those who are here hear who is missing, in seconds."""

SILENCE = 10.0
"""Seconds without a word after which a task is given up, and a connection that says nothing."""

_ANSWER = 0.3  # seconds for the last answers, where the last task came just at the deadline
_MAX_GUESTS = 256


@dataclass
class _Participant:
    """A task that has come."""

    connection: Connection
    handshake: Handshake
    deadline: float
    heard: float
    round: int = 0


@dataclass
class Coordinator:
    """Receives the tasks of a job.

    Attributes:
        cluster: The job; its task is the chief.
        tasks: Who must come, the chief among them.
        handshake: The chief's own.
        server: Listening at the chief's address; not closed here.
        deadline: On the clock of `time.monotonic`.
        log: Where the waiting is told.
        stay: Whether the connections stay open once all have come; see `parted`.
        secret: The job's, which whoever comes must prove to know.
        parted: Then, the open connection of each task and what the task said of itself.
        holding: Once all have come, how they hold the job's GPUs.
    """

    cluster: Cluster
    tasks: tuple[Task, ...]
    handshake: Handshake
    server: socket.socket
    deadline: float
    log: Log
    stay: bool = False
    secret: Secret = NO_SECRET
    parted: dict[Task, tuple[Connection, Handshake]] = field(default_factory=dict, init=False)
    holding: Holding = field(default="none", init=False)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector, init=False)
    _participants: dict[Task, _Participant] = field(default_factory=dict, init=False)
    _guests: dict[Connection, float] = field(default_factory=dict, init=False)
    _strangers: StrangerLog = field(init=False)
    _round: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._strangers = StrangerLog(self.log)

    def run(self) -> int:
        """Waits for all tasks.

        Returns:
            The job's seed, 31 bits, as it was sent to every task.

        Raises:
            RendezvousTimeout: Somebody was missing at the first deadline of those who are here.
            RendezvousMismatch: Somebody came with another spec, version, kind or name.
        """
        self.server.setblocking(False)
        self._selector.register(self.server, selectors.EVENT_READ)
        try:
            self._gather()
            for guest in list(self._guests):
                self._drop(guest)
            seed = secrets.randbits(31)
            handshakes = [self.handshake, *(one.handshake for one in self._participants.values())]
            self.holding = holding_of(one.cards for one in handshakes)
            go = {"say": "go", "seed": seed, "holding": self.holding}
            if self.stay:
                self._part(go)
            else:
                self._dismiss(go, within=1.0)
            return seed
        except RendezvousTimeout as error:
            self._dismiss({"say": "stop", "error": "timeout", "text": str(error)}, within=0.3)
            raise
        except RendezvousMismatch as error:
            # Whoever is only now on the way should hear the reason too, not a closed door.
            self._dismiss({"say": "stop", "error": "mismatch", "text": str(error)}, within=0.8)
            raise
        finally:
            for connection in self._everybody():
                connection.close()
            self._selector.close()

    def _gather(self) -> None:
        """Returns once every task is here and has said so after the last one came."""
        waiting = WaitingLog(self.log, self.cluster, self.handshake.timeout)
        tick = time.monotonic()
        asked = 0
        while True:
            now = time.monotonic()
            missing = self._missing()
            deaf = [task for task, one in self._participants.items() if one.round < asked]
            if asked and not missing and not deaf:
                return
            end = self._first_deadline() + (0.0 if missing else _ANSWER)
            if now >= end and (missing or deaf):
                raise RendezvousTimeout(self._late(missing, deaf))
            # An open connection alone does not tell a task that lives from one that has stopped,
            # so once the last has come everybody is asked again.
            news = bool(missing) == bool(asked)
            if news or now >= tick:
                self._round += 1
                asked = 0 if missing else asked or self._round
                tick = now + TICK
                self._tell_who_is_missing()
            waiting.tick(missing or deaf)
            self._drop_the_silent(now)
            self._listen(min(tick, waiting.due, end) - time.monotonic())

    def _missing(self) -> list[Task]:
        mine = Task.parse(self.handshake.task)
        return [task for task in self.tasks if task != mine and task not in self._participants]

    def _first_deadline(self) -> float:
        return min([self.deadline, *(one.deadline for one in self._participants.values())])

    def _late(self, missing: list[Task], deaf: list[Task]) -> str:
        first = min(self._participants.values(), key=lambda one: one.deadline, default=None)
        timeout = self.handshake.timeout
        if first is not None and first.deadline < self.deadline:
            timeout = first.handshake.timeout
        if not missing:
            return late_text(deaf, self.cluster, timeout, did_not="answer", detail="all came")
        came = f"{len(self.tasks) - len(missing)} of {len(self.tasks)} tasks came"
        return late_text(missing, self.cluster, timeout, detail=came)

    def _tell_who_is_missing(self) -> None:
        missing = [str(task) for task in self._missing()]
        for participant in list(self._participants.values()):
            self._tell(
                participant.connection, {"say": "status", "round": self._round, "missing": missing}
            )

    def _listen(self, longest: float) -> None:
        """Takes what comes, and returns after `longest` seconds if nothing does."""
        for key, _ in self._selector.select(max(0.0, longest)):
            if key.fileobj is self.server:
                self._accept()
            else:
                self._hear(key.data)

    def _accept(self) -> Connection | None:
        try:
            connected, _ = self.server.accept()
        except OSError:  # it was gone before it was taken, or there are too many open files
            time.sleep(0.01)
            return None
        connection = Connection(connected, Host(self.handshake, self.secret))
        self._selector.register(connected, selectors.EVENT_READ, connection)
        self._guests[connection] = time.monotonic()
        if len(self._guests) > _MAX_GUESTS:
            self._drop(crowded_out(self._guests))
        return connection

    def _hear(self, connection: Connection) -> None:
        try:
            for message in connection.receive():
                if connection in self._guests:
                    self._welcome(connection, Handshake.from_message(message))
                else:
                    self._note(connection, message)
        except Gone:
            self._drop(connection)
        except Stranger as stranger:
            if isinstance(stranger, Refusal) and not self.secret:  # there is nothing to protect
                raise RendezvousMismatch(str(stranger)) from None
            self._strangers.note(connection, stranger)
            self._drop(connection)

    def _note(self, connection: Connection, message: Message) -> None:
        for participant in self._participants.values():
            if participant.connection is connection:
                participant.heard = time.monotonic()
                if isinstance(message.get("round"), int):
                    participant.round = message["round"]

    def _welcome(self, connection: Connection, handshake: Handshake | None) -> None:
        if handshake is None:
            raise Stranger("a message that is no hello")
        if difference := handshake.difference(self.handshake):
            raise RendezvousMismatch(difference)
        # Their clusters are the same, so the task is one of ours, unless its index lies.
        task = next((task for task in self.tasks if str(task) == handshake.task), None)
        if task is None:
            raise Stranger(f"a task {handshake.task!r} that the cluster does not have")
        before = self._participants.get(task)
        earlier = (
            self.handshake if handshake.task == self.handshake.task else before and before.handshake
        )
        if earlier and earlier.token != handshake.token:
            raise RendezvousMismatch(
                f"two processes claim to be {task}: {earlier.who} and {handshake.who}; start every "
                "task once, each with its own index"
            )
        if before:
            self._drop(before.connection)
        now = time.monotonic()
        del self._guests[connection]
        self._participants[task] = _Participant(
            connection, handshake, now + handshake.remaining, now
        )
        missing = [str(task) for task in self._missing()]
        self._tell(connection, {"say": "status", "round": self._round, "missing": missing})

    def _drop_the_silent(self, now: float) -> None:
        silent = [guest for guest, since in self._guests.items() if now - since > SILENCE]
        silent += [m.connection for m in self._participants.values() if now - m.heard > SILENCE]
        for connection in silent:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if connection not in self._everybody():  # dropped already
            return
        self._guests.pop(connection, None)
        for task, participant in list(self._participants.items()):
            if participant.connection is connection:
                del self._participants[task]
        self._selector.unregister(connection.socket)
        connection.close()

    def _everybody(self) -> list[Connection]:
        return [
            *self._guests,
            *(participant.connection for participant in self._participants.values()),
        ]

    def _tell(self, connection: Connection, message: Message) -> None:
        try:
            connection.send(message)
        except Gone:
            self._drop(connection)

    def _part(self, last: Message) -> None:
        """Lets everybody begin, and hands their connections over to whoever stays."""
        for task, participant in list(self._participants.items()):
            self._tell(participant.connection, last)
            if task in self._participants:  # else it has gone just now, and may come back
                self._selector.unregister(participant.connection.socket)
                self.parted[task] = (self._participants.pop(task).connection, participant.handshake)

    def _dismiss(self, last: Message, *, within: float) -> None:
        """Says the last word to everybody, and waits for them to close.

        They close first, so that no connection lingers (TIME_WAIT) at the chief's own port.
        """
        until = time.monotonic() + within
        for connection in self._everybody():
            self._tell(connection, last)
        awaited = last.get("error") == "mismatch" and bool(self._missing())
        while (self._everybody() or awaited) and (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(min(0.05, left)):
                try:
                    if key.fileobj is not self.server:
                        key.data.receive()
                    elif newcomer := self._accept():
                        self._tell(newcomer, last)
                except (Gone, Stranger):
                    self._drop(key.data)
            for connection in self._everybody():
                try:
                    connection.flush()
                except Gone:
                    self._drop(connection)
