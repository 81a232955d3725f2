"""The other tasks' side of a rendezvous: reach the chief, say who one is, wait for its answer."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tfdist.cluster.address import Address
from tfdist.cluster.secret import NO_SECRET, Secret
from tfdist.cluster.spec import Cluster
from tfdist.cluster.task import Task
from tfdist.errors import ClusterError, RendezvousError, RendezvousMismatch, RendezvousTimeout
from tfdist.machine.hosts import look_up
from tfdist.rendezvous.cards import Holding
from tfdist.rendezvous.greeting import Newcomer
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection, Gone, Message, Refusal, Stranger
from tfdist.rendezvous.wording import MOST_TOLD, Log, WaitingLog, late_text

__all__ = ["Participant"]

_CONNECT = 3.0  # seconds for one attempt to look the chief up and reach it
_SILENCE = 10.0  # seconds without a word after which the connection to the chief is given up
_STALE = 4.0  # seconds after which the chief's last word on who is missing is no news any more
_VERDICT = 0.5  # seconds that the chief's own word on the deadline may be late
_PATIENCE = 3.0  # seconds for a server left over from another job to go away
_TICK = 0.25
_MOST_SPEAK = 64  # tasks of which each logs whom it waits for; of more, the chief alone does
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.5)  # seconds between attempts; the last one goes on


@dataclass
class Participant:
    """Comes to the chief.

    Attributes:
        cluster: The job, seen from this task.
        handshake: What this task says of itself.
        deadline: On the clock of `time.monotonic`.
        log: Where the waiting is told.
        stay: Whether the connection stays open after the chief's word; see `parted`.
        secret: The job's, which the chief must prove to know.
        parted: Then, the open connection, and the messages that came right after that word.
        holding: By the chief's word, how the tasks hold the job's GPUs.
    """

    cluster: Cluster
    handshake: Handshake
    deadline: float
    log: Log
    stay: bool = False
    secret: Secret = NO_SECRET
    parted: tuple[Connection, list[Message]] | None = field(default=None, init=False)
    holding: Holding = field(default="none", init=False)
    _waiting: WaitingLog = field(init=False)
    _missing: list[Task] = field(default_factory=list, init=False)
    _more: int = field(default=0, init=False)
    _reason: str = field(default="", init=False)
    _stranger: str = field(default="", init=False)
    _stranger_since: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._waiting = WaitingLog(self.log, self.cluster, self.handshake.timeout)

    def run(self) -> int:
        """Waits for the chief's word.

        Returns:
            The job's seed, 31 bits.

        Raises:
            RendezvousTimeout: The chief, or whoever it waited for, was missing at the deadline.
            RendezvousMismatch: Somebody came with another spec, version, kind or name.
            RendezvousError: Something else is at the chief's address.
        """
        attempt = 0
        while True:
            self._wait_for_the_chief()
            connection = self._connect()
            if connection is not None:
                try:
                    seed = self._converse(connection)
                finally:
                    if self.parted is None:
                        connection.close()
                if seed is not None:
                    return seed
            self._check_stranger()
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise RendezvousTimeout(self._late())
            self._waiting.tick(self._missing, self._more)
            time.sleep(min(left, _PAUSES[min(attempt, len(_PAUSES) - 1)]))
            attempt += 1

    def _connect(self) -> Connection | None:
        address = Address.parse(self.cluster.address(self.cluster.chief))
        until = min(self.deadline, time.monotonic() + _CONNECT)
        found = look_up([address.host], until - time.monotonic())[address.host]
        if isinstance(found, str):
            self._reason = found
            return None
        for host in found:
            left = until - time.monotonic()
            if left <= 0:
                break
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            attempt = socket.socket(family, socket.SOCK_STREAM)
            try:
                attempt.settimeout(left)
                attempt.connect((host, address.port))
                # Where nobody listens, the kernel may join the socket to itself.
                if attempt.getsockname() != attempt.getpeername():
                    return Connection(attempt, Newcomer(self.handshake, self.secret))
                self._reason = "connection refused"
            except TimeoutError:
                self._reason = "no answer to the connection"
            except OSError as error:
                self._reason = (error.strerror or str(error)).lower()
                if error.errno == errno.ECONNREFUSED:
                    self._reason = "connection refused"
                    self._stranger_since = None  # whoever it was has gone
            attempt.close()
        return None

    def _converse(self, connection: Connection) -> int | None:
        """Returns the seed; None where the connection came to an end before the chief's word."""
        heard = time.monotonic()
        known = False
        with selectors.DefaultSelector() as selector:
            selector.register(connection.socket, selectors.EVENT_READ)
            try:
                left = max(0.0, self.deadline - heard)
                self._say(
                    connection, replace(self.handshake, remaining=left).to_message(whole=False)
                )
                while True:
                    now = time.monotonic()
                    end = self.deadline + (_VERDICT if known else 0.0)
                    if now >= end or now - heard > _SILENCE:
                        if not known or not self._missing or now - heard > _STALE:
                            self._reason = "it takes connections and says nothing"
                            self._wait_for_the_chief()
                        return None
                    wake = min(end, heard + _SILENCE)
                    if not known or len(self.cluster) <= _MOST_SPEAK:
                        self._waiting.tick(self._missing, self._more)
                        wake = min(wake, max(self._waiting.due, now + _TICK))
                    selector.select(max(0.0, wake - now))
                    messages = connection.receive()
                    while messages:
                        known, heard, self._stranger_since = True, time.monotonic(), None
                        seed = self._obey(connection, messages.pop(0))
                        if seed is not None:
                            self.parted = (connection, messages) if self.stay else None
                            return seed
            except Gone:
                self._reason = "it closed the connection"
                self._wait_for_the_chief()
            except Refusal as refusal:
                chief = self.cluster.chief
                raise RendezvousMismatch(
                    f"{chief} ({self.cluster.address(chief)}) and {self.handshake.task} do not "
                    f"belong together: {refusal}"
                ) from None
            except Stranger as stranger:
                self._stranger = str(stranger)
                self._reason = f"at its address is {stranger}"
                self._wait_for_the_chief()
                self._stranger_since = self._stranger_since or time.monotonic()
        return None

    def _obey(self, connection: Connection, message: Mapping[str, Any]) -> int | None:
        said, text = message["say"], str(message.get("text", ""))[:4000]
        if said == "go" and isinstance(message.get("seed"), int):
            self.holding = message["holding"]
            return int(message["seed"])
        if said == "stop":
            if message.get("error") == "timeout":
                raise RendezvousTimeout(text)
            raise RendezvousMismatch(text)
        if said == "spec":  # of which the chief knows that it is another one than its own
            left = max(0.0, self.deadline - time.monotonic())
            self._say(connection, replace(self.handshake, remaining=left).to_message())
            return None
        if said != "status" or not isinstance(message.get("missing"), list):
            raise Stranger(f"something that said {said[:40]!r}")
        told = [self._task(str(name)) for name in message["missing"][:MOST_TOLD]]
        self._missing = [task for task in told if task is not None]
        self._more = int(message.get("more") or 0)
        self._say(connection, {"say": "here", "round": message.get("round")})
        return None

    def _task(self, name: str) -> Task | None:
        try:
            task = Task.parse(name)
            self.cluster.address(task)
        except ClusterError:
            return None
        return task

    def _wait_for_the_chief(self) -> None:
        self._missing, self._more = [self.cluster.chief], 0

    def _say(self, connection: Connection, message: dict[str, Any]) -> None:
        # The chief's last word may be waiting to be read on a connection that it has closed.
        with contextlib.suppress(Gone):
            connection.send(message)

    def _check_stranger(self) -> None:
        since = self._stranger_since
        if since is None or time.monotonic() < min(since + _PATIENCE, self.deadline):
            return
        chief = self.cluster.chief
        raise RendezvousError(
            f"{self._stranger} at the address of {chief}, "
            f"{self.cluster.address(chief)}, where a tfdist task should be; end it if it is left "
            f"over from another job, or give {chief} another port"
        )

    def _late(self) -> str:
        if self._missing == [self.cluster.chief]:
            return late_text(
                self._missing,
                self.cluster,
                self.handshake.timeout,
                did_not="answer",
                detail=self._reason,
            )
        return late_text(self._missing, self.cluster, self.handshake.timeout, more=self._more)
