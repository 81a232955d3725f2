"""Where the doctors of other tasks come to: at the address of this doctor's own task."""

from __future__ import annotations

import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from tfdist.cluster.secret import Secret
from tfdist.diagnose.doctor.line import Line
from tfdist.rendezvous.greeting import Host
from tfdist.rendezvous.guests import crowded_out
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection, Gone, Message, Refusal, Stranger

__all__ = ["Door", "Word"]

_TICK = 0.1
_MOST_GUESTS = 4096
_MOST_REFUSED = 20


@dataclass(frozen=True)
class Word:
    """Something that was said at the door.

    Attributes:
        guest: Who has said it; the same object for all words of one connection.
        message: What; None where the guest has gone.
        at: When it came, by the doctor's clock.
    """

    guest: Connection
    message: Message | None
    at: float


class Door:
    """Answers who tries whether this task can be reached, and hands on all else that is said.

    A context manager, after which it is closed. A thread of its own listens.

    Args:
        server: Listening; closed with the door.
        handshake: Of this doctor's task.
        secret: The job's.
        clock: The time of day, in seconds.
    """

    def __init__(
        self,
        server: socket.socket,
        handshake: Handshake,
        secret: Secret,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._handshake = handshake
        self._secret = secret
        self._clock = clock
        self._words: queue.SimpleQueue[Word] = queue.SimpleQueue()
        self._guests: dict[Connection, float] = {}
        self._refused: dict[str, None] = {}
        self._closing = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="tfdist-doctor", daemon=True)

    def __enter__(self) -> Door:
        self._server.setblocking(False)
        self._selector.register(self._server, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._thread.join()
        for guest in list(self._guests):
            guest.close()
        self._selector.close()
        self._server.close()

    @property
    def refused(self) -> tuple[str, ...]:
        """What was wrong with those that were not let in."""
        return tuple(self._refused)

    def next(self, until: float) -> Word:
        """Returns the next word.

        Args:
            until: When to give up, on the clock of `time.monotonic`.

        Raises:
            TimeoutError: Nobody says anything.
        """
        try:
            return self._words.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None

    def _run(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(_TICK):
                if key.data is None:
                    self._accept()
                elif key.data in self._guests:
                    self._hear(key.data)

    def _accept(self) -> None:
        try:
            connected, _ = self._server.accept()
        except OSError:  # it was gone before it was taken
            return
        guest = Connection(connected, Host(self._handshake, self._secret))
        self._selector.register(connected, selectors.EVENT_READ, guest)
        self._guests[guest] = time.monotonic()
        if len(self._guests) > _MOST_GUESTS:
            self._drop(crowded_out(self._guests))

    def _hear(self, guest: Connection) -> None:
        try:
            for message in guest.receive():
                if message["say"] == "probe":
                    own = {"say": "probed", "task": self._handshake.task}
                    Line(guest).say(own, time.monotonic() + 1.0)
                else:
                    self._words.put(Word(guest, message, self._clock()))
        except Refusal as refusal:
            if refusal.visit != "probe" and len(self._refused) < _MOST_REFUSED:
                self._refused[str(refusal)] = None
            self._drop(guest)
        except (Gone, Stranger, TimeoutError):
            self._drop(guest)

    def _drop(self, guest: Connection) -> None:
        del self._guests[guest]
        self._selector.unregister(guest.socket)
        guest.close()
        self._words.put(Word(guest, None, self._clock()))
