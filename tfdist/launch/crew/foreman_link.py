"""How a launcher reaches the foreman: in its own process, or at another host."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Protocol

from tfdist.cluster import Task
from tfdist.cluster.address import Address
from tfdist.cluster.secret import NO_SECRET, Secret
from tfdist.errors import RendezvousError, TaskLost
from tfdist.launch.crew.foreman import Foreman
from tfdist.launch.crew.front_door import BEAT, SILENCE, FrontDoor, launcher_handshake
from tfdist.launch.crew.roll import OWN, wanted_alike
from tfdist.launch.crew.strength import Strength
from tfdist.rendezvous.greeting import Newcomer
from tfdist.rendezvous.messages import Connection, Gone, Message, Refusal, Stranger
from tfdist.rendezvous.reach import reach
from tfdist.rendezvous.wording import WaitingLog

__all__ = ["ForemanLink", "LinkHere", "LinkThere", "join_message"]

_CONNECT = 0.5  # seconds that one try to connect may take
_PAUSE = 0.5  # between two


def join_message(strength: Strength, places: Sequence[Task], max_restarts: int) -> Message:
    """What a launcher says of itself.

    Args:
        strength: The whole job, and how many of it take part.
        places: Those that it brings.
        max_restarts: How many restarts the job has.
    """
    wants = wanted_alike(strength, max_restarts)
    return {
        "say": "join",
        "places": [str(place) for place in places],
        "wants": wants,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "token": secrets.token_hex(8),
    }


class ForemanLink(Protocol):
    """What a launcher needs of the way to the foreman."""

    def say(self, message: Message) -> None:
        """Reports something."""

    def tick(self, now: float) -> list[Message]:
        """Returns the orders that have come; called often."""

    def close(self) -> None:
        """Has what was said delivered, and ends."""


class LinkHere:
    """The foreman is in this process; other hosts' launchers come through its door, if any."""

    def __init__(
        self,
        foreman: Foreman,
        join: Message,
        place: Address | None = None,
        secret: Secret = NO_SECRET,
    ) -> None:
        """Opens the door, and joins.

        Args:
            foreman: Who decides.
            join: What this launcher says of itself.
            place: Where others come to; None where there are none.
            secret: The job's.

        Raises:
            ClusterError: That port is taken.
        """
        self._foreman = foreman
        self._door = None if place is None else FrontDoor(foreman, place, secret)
        self._said: list[str] = []
        self._waiting: WaitingLog | None = None
        foreman.hear(OWN, join)

    def say(self, message: Message) -> None:
        """Reports something."""
        self._foreman.hear(OWN, message)

    def tick(self, now: float) -> list[Message]:
        """Has the foreman decide; returns its orders for this launcher, and its notes."""
        self._foreman.hear(OWN, {"say": "alive"})
        if self._door is not None:
            self._door.tick(now)
        self._foreman.tick(now)
        if self._door is not None:
            orders = self._door.deliver(now)
        else:
            orders = [message for _, message in self._foreman.orders]
            self._foreman.orders.clear()
        if missing := self._foreman.missing():
            waiting = WaitingLog(
                self._said.append, self._foreman.strength.cluster, self._foreman.patience
            )
            self._waiting = self._waiting or waiting
            self._waiting.tick(missing)
        else:
            self._waiting = None
        notes = [{"say": "note", "text": text} for text in (*self._foreman.notes, *self._said)]
        self._foreman.notes.clear()
        self._said.clear()
        return [*notes, *orders]

    def close(self) -> None:
        """Tells the others how it has ended, and closes the door."""
        if self._door is not None:
            self._door.deliver(time.monotonic())
            self._door.close()


class LinkThere:
    """The foreman is at the chief's host. Where the way to it breaks, it is looked for again."""

    def __init__(
        self, place: Address, join: Message, patience: float, secret: Secret = NO_SECRET
    ) -> None:
        """Prepares to join.

        Args:
            place: Where the launchers meet.
            join: What this launcher says of itself.
            patience: Seconds for which the foreman is looked for.
            secret: The job's.
        """
        self._secret = secret
        self._place = place
        self._join = join
        self._patience = patience
        self._connection: Connection | None = None
        self._began = time.monotonic()
        self._tried = self._heard = self._beat = 0.0
        self._told = self._joined = self._ended = False
        self._reason = "no answer"

    def say(self, message: Message) -> None:
        """Reports something; where the foreman is lost, nobody hears it."""
        if self._connection is not None:
            with contextlib.suppress(Gone):
                self._connection.send(message)

    def tick(self, now: float) -> list[Message]:
        """Returns the foreman's orders; "lost" where the way to it has broken."""
        if self._ended:
            return []
        if self._connection is None:
            return self._look_for_it(now)
        try:
            messages = self._connection.receive()  # first: its last word may lie there
            if messages:
                self._heard = now
                return messages
            if now >= self._beat + BEAT:
                self._beat = now
                self._connection.send({"say": "alive"})
            self._connection.flush()
        except Refusal as refusal:
            self.close()
            text = f"the launcher at {self._place} is not to be joined: {refusal}"
            return [{"say": "end", "code": RendezvousError.exit_code, "text": text, "well": False}]
        except (Gone, Stranger):
            with contextlib.suppress(Gone, Stranger):  # its last word may have come meanwhile
                if last := self._connection.receive():
                    return last
            return self._lost(now)
        return self._lost(now) if now > self._heard + SILENCE else []

    def close(self) -> None:
        """Has what was said delivered, and ends."""
        if self._connection is not None:
            with contextlib.suppress(Gone):
                until = time.monotonic() + 1.0
                while not self._connection.flush() and time.monotonic() < until:
                    time.sleep(0.02)
            self._connection.close()
        self._connection, self._ended = None, True

    def _lost(self, now: float) -> list[Message]:
        assert self._connection is not None
        self._connection.close()
        self._connection, self._began, self._told = None, now, True
        text = (
            f"the chief's launcher, at {self._place}, is gone: the job cannot go on without it; "
            f"looking for it for {self._patience:g} s, in case that it comes back"
        )
        return [{"say": "lost", "text": text}]

    def _look_for_it(self, now: float) -> list[Message]:
        if now > self._began + self._patience:
            self._ended = True
            code = TaskLost.exit_code if self._joined else RendezvousError.exit_code
            text = (
                f"no launcher of the chief at {self._place} within {self._patience:g} s "
                f"({self._reason}); start it there, with the same options"
            )
            return [{"say": "end", "code": code, "text": text, "well": False}]
        if now < self._tried + _PAUSE:
            return []
        self._tried = now
        connection = self._connect()
        if connection is None:
            if not self._told and now > self._began + 2.0:
                self._told = True
                return [
                    {"say": "note", "text": f"waiting for the chief's launcher at {self._place}"}
                ]
            return []
        self._connection, self._heard, self._joined = connection, time.monotonic(), True
        self._connection.keep_alive(SILENCE)
        self.say(self._join)
        return []

    def _connect(self) -> Connection | None:
        attempt = reach(self._place, _CONNECT)
        if isinstance(attempt, str):
            self._reason = attempt
            return None
        own = launcher_handshake(Task.parse(self._join["places"][0]))
        return Connection(attempt, Newcomer(own, self._secret))
