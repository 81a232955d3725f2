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
from tfdist.machine.open_files import allow_open_files
from tfdist.rendezvous.absent import Absent
from tfdist.rendezvous.cards import Holding, holding_of
from tfdist.rendezvous.greeting import Host
from tfdist.rendezvous.guests import StrangerLog, crowded_out
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection, Gone, Message, Refusal, Stranger
from tfdist.rendezvous.wording import MOST_TOLD, Log, WaitingLog, late_text

__all__ = ["Coordinator"]

TICK = 1.0
"""How often those who are here hear who is missing, in seconds."""

SILENCE = 10.0
"""Seconds without a word after which a task is given up, and a connection that says nothing."""

_ANSWER = 0.3  # seconds for the last answers, where the last task came just at the deadline
_MAX_GUESTS = 256  # beside those who are missing
_AT_ONCE = 64  # connections that are taken before those who are here are heard again
_SMALL = 2000  # tasks; of more, each hears less often
_FLUSH = 0.05
_FILES_BESIDE = 200


@dataclass
class _Participant:
    """A task that has come."""

    task: Task
    connection: Connection
    handshake: Handshake
    deadline: float
    heard: float


@dataclass
class Coordinator:
    """Receives the tasks of a job; its work for each of them does not depend on their number.

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
    _here: dict[Task, _Participant] = field(default_factory=dict, init=False)
    _owners: dict[Connection, _Participant] = field(default_factory=dict, init=False)
    _guests: dict[Connection, float] = field(default_factory=dict, init=False)
    _absent: Absent = field(init=False)
    _deaf: set[Task] = field(default_factory=set, init=False)
    _asked: int = field(default=0, init=False)
    _round: int = field(default=0, init=False)
    _end: float | None = field(default=None, init=False)
    _strangers: StrangerLog = field(init=False)

    def __post_init__(self) -> None:
        self._strangers = StrangerLog(self.log)
        mine = Task.parse(self.handshake.task)
        self._absent = Absent(task for task in self.tasks if task != mine)

    def run(self) -> int:
        """Waits for all tasks.

        Returns:
            The job's seed, 31 bits, as it was sent to every task.

        Raises:
            RendezvousTimeout: Somebody was missing at the first deadline of those who are here.
            RendezvousMismatch: Somebody came with another spec, version, kind or name.
        """
        if short := allow_open_files(len(self.tasks) + _FILES_BESIDE):
            self.log(short)
        self.server.setblocking(False)
        self._selector.register(self.server, selectors.EVENT_READ)
        patience = len(self.tasks) / _SMALL
        try:
            self._gather()
            for guest in list(self._guests):
                self._drop(guest)
            seed = secrets.randbits(31)
            handshakes = [self.handshake, *(one.handshake for one in self._here.values())]
            self.holding = holding_of(one.cards for one in handshakes)
            go = {"say": "go", "seed": seed, "holding": self.holding}
            if self.stay:
                self._part(go)
            else:
                self._dismiss(go, within=1.0 + 2 * patience)
            return seed
        except RendezvousTimeout as error:
            said = {"say": "stop", "error": "timeout", "text": str(error)}
            self._dismiss(said, within=0.3 + patience)
            raise
        except RendezvousMismatch as error:
            # Whoever is only now on the way should hear the reason too, not a closed door.
            said = {"say": "stop", "error": "mismatch", "text": str(error)}
            self._dismiss(said, within=0.8 + patience)
            raise
        finally:
            for connection in self._everybody():
                connection.close()
            self._selector.close()

    def _gather(self) -> None:
        """Returns once every task is here and has said so after the last one came."""
        waiting = WaitingLog(self.log, self.cluster, self.handshake.timeout)
        tick = looked = time.monotonic()
        while True:
            now = time.monotonic()
            missing = bool(self._absent)
            if self._asked and not missing and not self._deaf:
                return
            end = self._first_deadline() + (0.0 if missing else _ANSWER)
            if now >= end and (missing or self._deaf):
                raise RendezvousTimeout(self._late())
            # An open connection alone does not tell a task that lives from one that has stopped,
            # so once the last has come everybody is asked again.
            news = missing == bool(self._asked)
            if news or now >= tick:
                self._round += 1
                if missing:
                    self._asked = 0
                elif not self._asked:
                    self._asked = self._round
                    self._deaf = {*self._here}
                tick = now + TICK * max(1.0, len(self.tasks) / _SMALL)
                self._drop_the_silent(looked)
                self._tell_who_is_missing()
                missing = bool(self._absent)
            if now >= waiting.due:
                told = self._absent.first(MOST_TOLD) if missing else self._first_deaf()
                waiting.tick(told, len(self._absent) - len(told) if missing else 0)
            looked = time.monotonic()
            self._listen(min(tick, waiting.due, end) - looked)

    def _first_deaf(self) -> list[Task]:
        return [task for task in self.tasks if task in self._deaf]

    def _first_deadline(self) -> float:
        if self._end is None:
            self._end = min([self.deadline, *(one.deadline for one in self._here.values())])
        return self._end

    def _late(self) -> str:
        first = min(self._here.values(), key=lambda one: one.deadline, default=None)
        timeout = self.handshake.timeout
        if first is not None and first.deadline < self.deadline:
            timeout = first.handshake.timeout
        if not self._absent:
            deaf = self._first_deaf()
            return late_text(deaf, self.cluster, timeout, did_not="answer", detail="all came")
        count = len(self._absent)
        came = f"{len(self.tasks) - count} of {len(self.tasks)} tasks came"
        told = self._absent.first(MOST_TOLD)
        return late_text(told, self.cluster, timeout, detail=came, more=count - len(told))

    def _status(self) -> Message:
        told = self._absent.first(MOST_TOLD)
        return {
            "say": "status",
            "round": self._round,
            "missing": [str(task) for task in told],
            "more": len(self._absent) - len(told),
        }

    def _tell_who_is_missing(self) -> None:
        status = self._status()
        for participant in list(self._here.values()):
            self._tell(participant.connection, status)

    def _listen(self, longest: float) -> None:
        """Takes what comes, and returns after `longest` seconds if nothing does."""
        for key, _ in self._selector.select(max(0.0, longest)):
            if key.fileobj is self.server:
                for _ in range(_AT_ONCE):
                    if self._accept() is None:
                        break
            elif key.data in self._guests or key.data in self._owners:  # else dropped just now
                self._hear(key.data)

    def _accept(self) -> Connection | None:
        try:
            connected, _ = self.server.accept()
        except BlockingIOError:
            return None
        except OSError:  # it was gone before it was taken, or there are too many open files
            time.sleep(0.01)
            return None
        connection = Connection(connected, Host(self.handshake, self.secret))
        self._selector.register(connected, selectors.EVENT_READ, connection)
        self._guests[connection] = time.monotonic()
        if len(self._guests) > _MAX_GUESTS + len(self._absent):
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
            if isinstance(stranger, Refusal) and not self.secret and not stranger.visit:
                raise RendezvousMismatch(str(stranger)) from None  # there is nothing to protect
            self._strangers.note(connection, stranger)
            self._drop(connection)

    def _note(self, connection: Connection, message: Message) -> None:
        participant = self._owners.get(connection)
        if participant is None:  # dropped by an earlier one of its messages
            return
        participant.heard = time.monotonic()
        answered = message.get("round")
        if isinstance(answered, int) and answered >= self._asked > 0:
            self._deaf.discard(participant.task)

    def _welcome(self, connection: Connection, handshake: Handshake | None) -> None:
        if handshake is None:
            raise Stranger("a message that is no hello")
        if handshake.lacks_jobs(self.handshake) and not handshake.refusal:
            self._tell(connection, {"say": "spec"})
            return
        if difference := handshake.difference(self.handshake):
            raise RendezvousMismatch(difference)
        # Their clusters are the same, so the task is one of ours, unless its index lies.
        task = self._absent.named(handshake.task)
        if task is None and handshake.task != self.handshake.task:
            raise Stranger(f"a task {handshake.task!r} that the cluster does not have")
        before = self._here.get(task) if task is not None else None
        earlier = before.handshake if before else self.handshake if task is None else None
        if earlier is not None and earlier.token != handshake.token:
            raise RendezvousMismatch(
                f"two processes claim to be {handshake.task}: {earlier.who} and {handshake.who}; "
                "start every task once, each with its own index"
            )
        if task is None:
            raise Stranger("the chief's own word")
        if before:
            self._drop(before.connection)
        now = time.monotonic()
        del self._guests[connection]
        participant = _Participant(task, connection, handshake, now + handshake.remaining, now)
        self._here[task] = self._owners[connection] = participant
        self._absent.remove(task)
        if self._asked:  # it has come back at once, and must answer as the others
            self._deaf.add(task)
        self._end = min(self._first_deadline(), participant.deadline)
        self._tell(connection, self._status())

    def _drop_the_silent(self, looked: float) -> None:
        """Drops who had said nothing for long when it was last looked; who has is not unheard."""
        silent = [guest for guest, since in self._guests.items() if looked - since > SILENCE]
        silent += [m.connection for m in self._here.values() if looked - m.heard > SILENCE]
        for connection in silent:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        was_guest = self._guests.pop(connection, None) is not None
        participant = self._owners.pop(connection, None)
        if participant is None and not was_guest:  # dropped already
            return
        if participant is not None:
            del self._here[participant.task]
            self._absent.add(participant.task)
            self._deaf.discard(participant.task)
            self._end = None
        self._selector.unregister(connection.socket)
        connection.close()

    def _everybody(self) -> list[Connection]:
        return [*self._guests, *self._owners]

    def _tell(self, connection: Connection, message: Message) -> None:
        try:
            connection.send(message)
        except Gone:
            self._drop(connection)

    def _part(self, last: Message) -> None:
        """Lets everybody begin, and hands their connections over to whoever stays."""
        for task, participant in list(self._here.items()):
            self._tell(participant.connection, last)
            if task in self._here:  # else it has gone just now, and may come back
                self._selector.unregister(participant.connection.socket)
                del self._owners[participant.connection]
                self.parted[task] = (self._here.pop(task).connection, participant.handshake)

    def _dismiss(self, last: Message, *, within: float) -> None:
        """Says the last word to everybody, and waits for them to close.

        They close first, so that no connection lingers (TIME_WAIT) at the chief's own port.
        """
        until = time.monotonic() + within
        for connection in self._everybody():
            self._tell(connection, last)
        awaited = last.get("error") == "mismatch" and bool(self._absent)
        flush = 0.0
        while (self._guests or self._owners or awaited) and (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(min(_FLUSH, left)):
                try:
                    if key.fileobj is not self.server:
                        key.data.receive()
                    elif newcomer := self._accept():
                        self._tell(newcomer, last)
                except (Gone, Stranger):
                    self._drop(key.data)
            if time.monotonic() < flush:
                continue
            flush = time.monotonic() + _FLUSH
            for connection in self._everybody():
                try:
                    connection.flush()
                except Gone:
                    self._drop(connection)
