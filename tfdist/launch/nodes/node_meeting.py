"""The launchers of a job come together at the address of one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tfdist.cluster import Cluster, Task
from tfdist.cluster.address import Address
from tfdist.cluster.secret import Secret
from tfdist.errors import ClusterError, RendezvousMismatch, RendezvousTimeout
from tfdist.launch.nodes.node import Node
from tfdist.launch.nodes.node_roll import NodeRoll, Part
from tfdist.machine.hosts import is_local, look_up
from tfdist.machine.ports import busy, listen
from tfdist.rendezvous.greeting import Host, Newcomer
from tfdist.rendezvous.guests import StrangerLog
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection, Gone, Message, Refusal, Stranger
from tfdist.rendezvous.reach import farewell, reach

__all__ = ["NodeMeeting"]

_CONNECT_SECONDS = 0.5
_TICK_SECONDS = 0.03
_QUIET_SECONDS = 2.0
_SILENCE = 10.0  # after which the kernel finds out that a machine has vanished
_MOST_GUESTS = 1024
_LOOK_UP_SECONDS = 5.0


@dataclass
class NodeMeeting:
    """One launcher's way to its part of the job.

    Attributes:
        place: Where all meet.
        roll: What is to come together; its first node is this one, whichever it becomes.
        secret: The job's.
        patience: Seconds for which it is waited for the others.
        say: Shows a line.
    """

    place: Address
    roll: NodeRoll
    secret: Secret
    patience: float
    say: Callable[[str], None]
    _began: float = field(default_factory=time.monotonic, init=False)

    def part(self) -> Part:
        """Waits for all, and returns what becomes of this one.

        Raises:
            ClusterError: The address is none, or its port belongs to somebody else.
            RendezvousTimeout: Somebody has not come.
            RendezvousMismatch: Somebody has come with another command, version or secret.
        """
        found = look_up([self.place.host], _LOOK_UP_SECONDS)[self.place.host]
        if isinstance(found, str):
            raise ClusterError(
                f"--rendezvous {self.place}, whose host is not known ({found}); give the name or "
                "the address of one of the job's hosts, on each the same"
            )
        # Of several launchers on its machine the first one leads.
        leads = any(is_local(ip) for ip in found) and busy(self.place.port) is None
        return self._lead() if leads else self._follow()

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._began + self.patience

    # ------------------------------------------------------------ the first one

    def _lead(self) -> Part:
        host = "127.0.0.1" if self.place.is_loopback else None
        try:
            server = listen(self.place.port, host=host, backlog=_MOST_GUESTS)
        except OSError:  # another one of this machine was faster
            return self._follow()
        server.setblocking(False)
        self.roll.first = replace(self.roll.first, address=self.place.host)
        self.say(f"waiting at {self.place} for {self.roll.counts.nodes} nodes, this one among them")
        guests: dict[str, Connection] = {}
        try:
            strangers = StrangerLog(self.say)
            own = Handshake("the first node", {}, "", {}, 0.0, 0.0)
            while not self.roll.is_complete:
                if self._is_over:
                    raise RendezvousTimeout(self._tell_all(guests, "timeout", self._missing()))
                while len(guests) < _MOST_GUESTS:
                    try:
                        guest = Connection(server.accept()[0], Host(own, self.secret))
                    except OSError:  # nobody else is there
                        break
                    guest.keep_alive(_SILENCE)
                    guests[guest.peer] = guest
                for who in list(guests):
                    if fault := self._hear(who, guests, strangers):
                        raise RendezvousMismatch(self._tell_all(guests, "mismatch", fault))
                time.sleep(_TICK_SECONDS)
            parts = self.roll.parts()
            for who, part in parts.items():
                if who:
                    self._send(guests[who], _told(part))
            return parts[""]
        finally:
            server.close()
            farewell(guests.values())

    def _hear(self, who: str, guests: dict[str, Connection], strangers: StrangerLog) -> str:
        """Hears a guest; returns why all must end, "" where they need not."""
        guest = guests[who]
        try:
            for message in guest.receive():
                if message["say"] == "join" and who not in self.roll.nodes:
                    node = Node.from_tree(message["node"])
                    if fault := self.roll.come(who, node):
                        return fault
                    self.say(f"{node.who} is here, {len(self.roll.nodes) + 1} nodes")
        except (Gone, ValueError, KeyError, TypeError, AttributeError):
            guests.pop(who).close()
            if who in self.roll.nodes:
                self.say(f"{self.roll.nodes.pop(who).who} has gone again")
        except Stranger as stranger:
            strangers.note(guest, stranger)
            guests.pop(who).close()
        return ""

    def _missing(self) -> str:
        missing = self.roll.counts.nodes - len(self.roll.nodes) - 1
        are = "1 node is" if missing == 1 else f"{missing} nodes are"
        return (
            f"{are} missing after {self.patience:g} s at {self.place}, {self.roll.here()}; give "
            "the same command on every host"
        )

    def _tell_all(self, guests: dict[str, Connection], error: str, text: str) -> str:
        for guest in guests.values():
            self._send(guest, {"say": "stop", "error": error, "text": text})
        return text

    def _send(self, guest: Connection, message: Message) -> None:
        try:
            guest.send(message)
        except Gone:
            self.say(f"{guest.peer} has gone")

    # ------------------------------------------------------------ the others

    def _follow(self) -> Part:
        told, reason = False, "no answer"
        while not self._is_over:
            attempt = reach(self.place, _CONNECT_SECONDS)
            if isinstance(attempt, str):
                reason = attempt
            else:
                # Of one machine, all have one address: by it they know that they share its cores.
                here = is_local(attempt.getpeername()[0])
                own_at = self.place.host if here else attempt.getsockname()[0]
                node = replace(self.roll.first, address=own_at)
                own = Handshake("a node", {}, "", {}, 0.0, 0.0)
                connection = Connection(attempt, Newcomer(own, self.secret))
                try:
                    if part := self._wait_for_part(connection, node):
                        return part
                    reason = "the launcher there has gone"
                except Refusal as refusal:
                    raise RendezvousMismatch(f"the node at {self.place}: {refusal}") from None
                except Stranger as stranger:
                    raise ClusterError(
                        f"--rendezvous {self.place} is {stranger}; give a port that is free there"
                    ) from None
                finally:
                    connection.close()
            if not told and time.monotonic() > self._began + _QUIET_SECONDS:
                told = True
                self.say(f"waiting for a launcher at {self.place} ({reason})")
            time.sleep(_CONNECT_SECONDS)
        raise RendezvousTimeout(
            f"nobody at {self.place} within {self.patience:g} s ({reason}); give the same command "
            "on the host of that address, and open its port to the others"
        )

    def _wait_for_part(self, connection: Connection, node: Node) -> Part | None:
        """Waits for this one's part; None where the first one has gone.

        Raises:
            RendezvousTimeout: Somebody has not come.
            RendezvousMismatch: Somebody has come with something else.
            Stranger: That is no launcher.
        """
        connection.keep_alive(_SILENCE)
        try:
            connection.send({"say": "join", "node": node.to_tree()})
            while True:
                for message in connection.receive():
                    text = str(message.get("text", ""))
                    if message["say"] == "part":
                        return _part(message)
                    if message["say"] == "stop" and message["error"] == "timeout":
                        raise RendezvousTimeout(text)
                    if message["say"] == "stop":
                        raise RendezvousMismatch(text)
                connection.flush()
                if time.monotonic() > self._began + self.patience + _SILENCE:
                    raise RendezvousTimeout(
                        f"no word of the node at {self.place} within {self.patience:g} s; see what "
                        "it says"
                    )
                time.sleep(_TICK_SECONDS)
        except Gone:
            return None


def _told(part: Part) -> Message:
    jobs = {job: list(addresses) for job, addresses in part.cluster.jobs.items()}
    return {"say": "part", "jobs": jobs, "tasks": [str(task) for task in part.tasks]}


def _part(message: Message) -> Part:
    jobs = {str(job): tuple(map(str, at)) for job, at in message["jobs"].items()}
    return Part(Cluster(jobs), tuple(Task.parse(str(name)) for name in message["tasks"]))
