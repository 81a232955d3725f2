"""Where the launchers of other hosts come to the foreman: one port at the chief's host."""

from __future__ import annotations

from dataclasses import dataclass, field

from tfdist.cluster import Cluster, Task
from tfdist.cluster.address import Address
from tfdist.cluster.secret import NO_SECRET, Secret
from tfdist.errors import ClusterError
from tfdist.launch.crew.foreman import Foreman
from tfdist.launch.crew.roll import OWN
from tfdist.machine.ports import busy, listen
from tfdist.rendezvous.greeting import Host
from tfdist.rendezvous.guests import StrangerLog
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection, Gone, Message, Stranger
from tfdist.rendezvous.reach import farewell

__all__ = ["BEAT", "SILENCE", "FrontDoor", "launcher_handshake", "meeting_place"]

BEAT = 1.0
"""Seconds between two signs of life."""

SILENCE = 10.0
"""Seconds without one after which the other side is lost; TensorFlow waits about as long."""

_MOST_GUESTS = 1024


def meeting_place(cluster: Cluster, port: int | None = None) -> Address:
    """Where the launchers of a job meet: at the chief's host, behind the ports of its tasks there.

    Args:
        cluster: The whole job.
        port: Another port; None for the one after the highest of that host's tasks.

    Raises:
        ClusterError: There is no port after the highest.
    """
    host = Address.parse(cluster.address(cluster.chief)).host
    addresses = [Address.parse(cluster.address(task)) for task in cluster.tasks]
    found = port or 1 + max(one.port for one in addresses if one.host == host)
    if found > 65535:
        raise ClusterError("no port after the highest of the chief's host; give --crew_port")
    return Address(host, found)


def launcher_handshake(place: Task) -> Handshake:
    """What a launcher says of itself before it has proven to belong to the job.

    Args:
        place: The first that it brings.
    """
    return Handshake(str(place), {}, "", {}, 0.0, 0.0)


@dataclass
class FrontDoor:
    """Brings reports of other hosts' launchers to the foreman, and orders to them.

    Attributes:
        foreman: Who decides.
        place: Where it listens.
        secret: The job's, which whoever comes must prove to know.
    """

    foreman: Foreman
    place: Address
    secret: Secret = NO_SECRET
    _strangers: StrangerLog = field(init=False)
    _guests: dict[str, Connection] = field(default_factory=dict, init=False)
    _heard: dict[str, float] = field(default_factory=dict, init=False)
    _beat: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._strangers = StrangerLog(self.foreman.notes.append)
        self._own = launcher_handshake(self.foreman.strength.cluster.chief)
        host = "127.0.0.1" if self.place.is_loopback else None
        try:
            self._server = listen(self.place.port, host=host, backlog=_MOST_GUESTS)
        except OSError as error:
            reason = busy(self.place.port) or (error.strerror or str(error)).lower()
            raise ClusterError(
                f"port {self.place.port}, where the launchers of this job meet, that is {reason}; "
                "give every launcher another one with --crew_port"
            ) from None
        self._server.setblocking(False)

    def tick(self, now: float) -> None:
        """Lets in who comes, and hears who is here.

        Args:
            now: On the clock of `time.monotonic`.
        """
        while len(self._guests) < _MOST_GUESTS:
            try:
                guest = Connection(self._server.accept()[0], Host(self._own, self.secret))
            except OSError:  # nobody else is there
                break
            guest.keep_alive(SILENCE)
            self._guests[guest.peer], self._heard[guest.peer] = guest, now
        for who, guest in list(self._guests.items()):
            try:
                for message in guest.receive():
                    self._heard[who] = now
                    self.foreman.hear(who, message)
            except Gone:
                self._lose(who)
            except Stranger as stranger:
                self._strangers.note(guest, stranger)
                self._lose(who)
        for who in [who for who, heard in self._heard.items() if now > heard + SILENCE]:
            self._lose(who)

    def deliver(self, now: float) -> list[Message]:
        """Sends the foreman's orders, and signs of life.

        Args:
            now: On the clock of `time.monotonic`.

        Returns:
            Those for the chief's own launcher.
        """
        own = []
        for who, message in self.foreman.orders:
            if who == OWN:
                own.append(message)
            else:
                self._send(who, message)
        self.foreman.orders.clear()
        beats = now >= self._beat + BEAT
        for who in list(self._guests):
            if beats:
                self._beat = now
                self._send(who, {"say": "alive"})
            else:
                self._send(who, None)
        return own

    def close(self) -> None:
        """Waits a little until all was sent, and read by those who are here, and closes."""
        self._server.close()
        farewell(self._guests.values())
        self._guests.clear()

    def _send(self, who: str, message: Message | None) -> None:
        guest = self._guests.get(who)
        if guest is None:
            return
        try:
            if message is None:
                guest.flush()
            else:
                guest.send(message)
        except Gone:
            self._lose(who)

    def _lose(self, who: str) -> None:
        self._guests.pop(who).close()
        self._heard.pop(who, None)
        self.foreman.gone(who)
