"""The chief's side of a job with servers, after the rendezvous: the door stays open to the end.

    worker:0 ◄──► │ chief:0, a thread ──ended (well or not)──► all, as the last word
    ps:0     ◄──► │    ▲
    worker:1 ─ ✗  │    └──hello── worker:1, started again: go (seed), or stop (why)

Silence is no sign of death before the stall timeout. Whoever has died has lost its connection.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tfdist import process
from tfdist.cluster.secret import NO_SECRET, Secret
from tfdist.cluster.spec import Cluster
from tfdist.cluster.task import Task
from tfdist.errors import RendezvousTimeout
from tfdist.machine.standstill import Standstill
from tfdist.rendezvous import dropping
from tfdist.rendezvous.forks import leave_to_the_parent
from tfdist.rendezvous.greeting import Host
from tfdist.rendezvous.guests import StrangerLog, crowded_out
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection, Gone, Message, Stranger
from tfdist.rendezvous.wording import Log, late_text, two_claim

__all__ = ["Membership"]

ANSWER = 10.0
"""How long a task may take to say that it still lives when another process claims its name."""

_TICK = 1.0
_BEAT_SECONDS = 2.0
_SILENCE = 10.0  # seconds for a handshake
_FAREWELL = 2.0  # seconds for the last word to reach all
_MAX_GUESTS = 64
_TEND_SECONDS = 0.2


@dataclass
class _Claim:
    """A process that wants the place of a task whose connection is still open."""

    task: Task
    handshake: Handshake
    until: float


@dataclass(eq=False)
class Membership:
    """Keeps the connections of a job's tasks until the job ends, in a thread of its own.

    Its methods may be called from any thread.

    Attributes:
        cluster: The job; its task is the chief.
        tasks: All tasks that meet, the chief among them, in the cluster's order.
        handshake: The chief's own.
        seed: The job's, for those who come back.
        server: Listening at the chief's address; closed here.
        members: The tasks that came, with their connections; closed here.
        log: Takes one line an event.
        secret: The job's, which whoever comes must prove to know.
        saves: Whether a training is running that saves before it ends: a server that is sent a
            signal to end then stays until it has.
        asked_by: Which signal to which server has asked for the job's end; "" where none has.
    """

    cluster: Cluster
    tasks: tuple[Task, ...]
    handshake: Handshake
    seed: int
    server: socket.socket
    members: dict[Task, tuple[Connection, Handshake]]
    log: Log
    secret: Secret = NO_SECRET
    saves: bool = False
    asked_by: str = field(default="", init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _serving: set[Task] = field(default_factory=set, init=False)
    _times: dict[Task, int] = field(default_factory=dict, init=False)
    _guests: dict[Connection, float] = field(default_factory=dict, init=False)
    _claims: dict[Connection, _Claim] = field(default_factory=dict, init=False)
    _owners: dict[Connection, Task] = field(default_factory=dict, init=False)
    _tended: float = field(default=0.0, init=False)
    _strangers: StrangerLog = field(init=False)
    _last: Message | None = field(default=None, init=False)
    _heard: dict[Task, float] = field(default_factory=dict, init=False)
    _beat: float = field(default=0.0, init=False)
    _standstill: Standstill = field(default_factory=Standstill, init=False)
    _stacks_are_wanted: bool = field(default=False, init=False)
    _round: int = field(default=1 << 20, init=False)  # above those of the rendezvous

    def __post_init__(self) -> None:
        self._pid = os.getpid()
        self._strangers = StrangerLog(self.log)
        self._changed = threading.Condition(self._lock)
        self._chief = Task.parse(self.handshake.task)
        self._times = dict.fromkeys([self._chief, *self.members], 1)
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self.server.setblocking(False)
        self._selector.register(self.server, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._owners = {connection: task for task, (connection, _) in self.members.items()}
        for connection in self._owners:
            connection.keep_alive(process.stall_timeout())
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        leave_to_the_parent(self)
        self._thread = threading.Thread(target=self._run, name="tfdist-membership", daemon=True)
        self._thread.start()

    def present(self) -> tuple[Task, ...]:
        """The tasks that are here now, the chief among them, in the cluster's order."""
        with self._lock:
            here = {self._chief, *self.members}
        return tuple(task for task in self.tasks if task in here)

    def absent(self) -> tuple[Task, ...]:
        """The tasks that have gone and not come back, in the cluster's order."""
        here = set(self.present())
        return tuple(task for task in self.tasks if task not in here)

    def silent(self, longest: float) -> list[tuple[Task, float]]:
        """The tasks that are here but have not answered for so long, and for how long, in seconds.

        Each is asked every two seconds.
        """
        now = time.monotonic()
        with self._lock:
            quiet = [(task, now - self._heard.get(task, now)) for task in self.members]
        return [(task, seconds) for task, seconds in quiet if seconds > longest]

    def ask_for_stacks(self) -> None:
        """Has every server write where its threads stand."""
        self._stacks_are_wanted = True

    def times(self, task: Task) -> int:
        """How many times a task has come, each time as another process; 0 where it never did."""
        with self._lock:
            return self._times.get(task, 0)

    def wait_for_servers(self, timeout: float) -> None:
        """Returns once every task but the chief has said that its server listens.

        Args:
            timeout: How long to wait, in seconds.

        Raises:
            RendezvousTimeout: One did not say so; the message names all of them.
        """
        until = time.monotonic() + timeout
        with self._changed:
            while late := [t for t in self.tasks if t != self._chief and t not in self._serving]:
                left = until - time.monotonic()
                if left <= 0 or self._last is not None:
                    text = late_text(late, self.cluster, timeout, did_not="serve")
                    raise RendezvousTimeout(text)
                self._changed.wait(left)

    def close(self, *, well: bool, reason: str = "") -> None:
        """Says the last word to all tasks, and closes the door; the first call counts.

        Args:
            well: Whether the job has ended well.
            reason: What went wrong, in a few words.
        """
        if self._pid != os.getpid():  # a forked child has no part in this
            return
        with self._lock:
            self._last = self._last or {"say": "ended", "well": well, "text": reason[:1000]}
        with contextlib.suppress(OSError):
            self._wake.send(b"!")
        self._thread.join(_FAREWELL + 3.0)

    def _run(self) -> None:
        try:
            while self._last is None:
                self._listen(_TICK)
                self._tend(time.monotonic())
            self._say_farewell(self._last)
        finally:
            self._selector.close()
            self.shut()

    def shut(self) -> None:
        """Closes every socket, here and in a forked child."""
        for connection in self._everybody():
            connection.close()
        for one in (self.server, self._wake, self._woken):
            one.close()

    def _listen(self, longest: float) -> None:
        for key, _ in self._selector.select(longest):
            if key.fileobj is self.server:
                self._accept()
            elif key.fileobj is self._woken:
                with contextlib.suppress(OSError):
                    self._woken.recv(64)
            elif self._knows(key.data):  # else dropped by an earlier one of this round
                self._hear(key.data)

    def _accept(self) -> None:
        try:
            connected, _ = self.server.accept()
        except OSError:  # it was gone before it was taken, or there are too many open files
            time.sleep(0.01)
            return
        connection = Connection(connected, Host(self.handshake, self.secret))
        self._selector.register(connected, selectors.EVENT_READ, connection)
        self._guests[connection] = time.monotonic() + _SILENCE
        if len(self._guests) > _MAX_GUESTS:
            self._drop(crowded_out(self._guests))

    def _hear(self, connection: Connection) -> None:
        try:
            for message in connection.receive():
                self._note_that_it_lives(connection)
                if connection in self._guests:
                    handshake = Handshake.from_message(message)
                    if handshake is None:
                        raise Stranger("a message that is no hello")
                    self._receive(connection, handshake)
                elif message.get("say") == "serving":
                    self._note_that_it_serves(connection)
                elif message.get("say") == "asked to end":
                    self._note_that_it_is_to_end(connection, str(message.get("by"))[:20])
                elif message.get("round") == self._round:
                    self._hear_that_it_lives(connection)
        except Gone:
            self._drop(connection)
        except Stranger as stranger:
            self._strangers.note(connection, stranger)
            self._drop(connection)

    def _receive(self, connection: Connection, handshake: Handshake) -> None:
        """Lets a task in, refuses it, or asks the one whose place it claims whether it lives."""
        if handshake.lacks_jobs(self.handshake) and not handshake.refusal:
            self._tell(connection, {"say": "spec"})
            return
        if difference := handshake.difference(self.handshake):
            self._refuse(connection, difference)
            return
        task = next((task for task in self.tasks if str(task) == handshake.task), None)
        if task is None:
            raise Stranger(f"a task {handshake.task!r} that the cluster does not have")
        if task == self._chief:
            self._refuse(connection, two_claim(task, self.handshake, handshake))
            return
        before = self.members.get(task)
        if before is None or before[1].token == handshake.token:
            self._let_in(connection, task, handshake)
            return
        rival = next((one for one in self._claims.values() if one.task == task), None)
        if rival is not None:
            self._refuse(connection, two_claim(task, rival.handshake, handshake))
            return
        del self._guests[connection]
        self._claims[connection] = _Claim(task, handshake, time.monotonic() + ANSWER)
        self._tell(connection, {"say": "status", "round": 0, "missing": []})
        self._round += 1
        self._tell(before[0], {"say": "status", "round": self._round, "missing": []})

    def _let_in(self, connection: Connection, task: Task, handshake: Handshake) -> None:
        before = self.members.get(task)
        if before is not None:
            text = f"another process has taken the place of {task}: {handshake.who}"
            self._refuse(before[0], text, quietly=True)
        self._guests.pop(connection, None)
        self._claims.pop(connection, None)
        connection.keep_alive(process.stall_timeout())
        another = before is None or before[1].token != handshake.token
        self._owners[connection] = task
        with self._lock:
            self.members[task] = (connection, handshake)
            self._times[task] = self._times.get(task, 0) + another
        self._tell(connection, {"say": "go", "seed": self.seed, "holding": "none"})
        if another:
            self.log(f"{task} is back ({handshake.who})")

    def _note_that_it_serves(self, connection: Connection) -> None:
        with self._changed:
            if connection in self._owners:
                self._serving.add(self._owners[connection])
            self._changed.notify_all()

    def _note_that_it_is_to_end(self, connection: Connection, by: str) -> None:
        if not self.saves:
            self._tell(connection, {"say": "end"})
            return
        if connection in self._owners:
            self.asked_by = f"{by} to {self._owners[connection]}"

    def _note_that_it_lives(self, connection: Connection) -> None:
        if connection in self._owners:
            self._heard[self._owners[connection]] = time.monotonic()

    def _hear_that_it_lives(self, connection: Connection) -> None:
        task = self._owners.get(connection)
        for claimant, claim in list(self._claims.items()):
            if claim.task == task:
                first = self.members[task][1]
                self._refuse(claimant, two_claim(task, first, claim.handshake))

    def _refuse(self, connection: Connection, text: str, *, quietly: bool = False) -> None:
        if not quietly:
            self.log(f"refused: {text}")
        self._tell(connection, {"say": "stop", "error": "mismatch", "text": text})
        self._drop(connection, quietly=True)

    def _tend(self, now: float) -> None:
        if now < self._tended + _TEND_SECONDS:  # of many tasks, words come all the time
            return
        self._tended = now
        for late in [guest for guest, until in self._guests.items() if now > until]:
            self._drop(late)
        for connection, claim in list(self._claims.items()):
            if claim.task not in self.members or now > claim.until:
                self._let_in(connection, claim.task, claim.handshake)
            else:  # who waits wants to hear something
                self._tell(connection, {"say": "status", "round": 0, "missing": []})
        for connection in self._everybody():
            with contextlib.suppress(Gone):
                connection.flush()
        if self._standstill.is_over():
            self._heard.clear()
        self._drop_silent_workers(now)
        if now > self._beat + _BEAT_SECONDS:
            self._beat = now
            asked, self._stacks_are_wanted = self._stacks_are_wanted, False
            for task, (own, _) in list(self.members.items()):
                self._heard.setdefault(task, now)
                if asked:
                    self._tell(own, {"say": "stacks"})
                self._tell(own, {"say": "status", "round": -1, "missing": []})

    def _drop_silent_workers(self, now: float) -> None:
        for task in dropping.overdue(self.cluster, self._heard, now):
            connection, handshake = self.members[task]
            self._refuse(connection, f"{task} has said nothing for too long", quietly=True)
            self.log(dropping.drop(task, handshake, self.cluster))

    def _drop(self, connection: Connection, *, quietly: bool = False) -> None:
        if not self._knows(connection):
            return
        self._guests.pop(connection, None)
        self._claims.pop(connection, None)
        task = self._owners.pop(connection, None)
        if task is not None:
            with self._lock:
                del self.members[task]
                self._heard.pop(task, None)
                self._serving.discard(task)
            if not quietly and self._last is None:
                self.log(f"{task} is gone")
        self._selector.unregister(connection.socket)
        connection.close()

    def _knows(self, connection: Connection) -> bool:
        return any(connection in some for some in (self._guests, self._claims, self._owners))

    def _everybody(self) -> list[Connection]:
        return [*self._guests, *self._claims, *self._owners]

    def _tell(self, connection: Connection, message: Mapping[str, object]) -> None:
        with contextlib.suppress(Gone):  # its end is heard when its connection is read
            connection.send(dict(message))

    def _say_farewell(self, last: Message) -> None:
        """Says the last word, and waits for the tasks to close.

        They close first, so that no connection lingers (TIME_WAIT) at the chief's own port.
        """
        until = time.monotonic() + _FAREWELL
        for guest in list(self._guests):
            self._drop(guest)
        for connection in self._everybody():
            self._tell(connection, last)
        self._selector.unregister(self.server)
        self.server.close()
        while self._everybody() and (left := until - time.monotonic()) > 0:
            self._tend_farewell()
            self._listen(min(0.05, left))

    def _tend_farewell(self) -> None:
        for connection in self._everybody():
            try:
                connection.flush()
            except Gone:
                self._drop(connection)
