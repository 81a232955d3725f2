"""A server's side of a job, after the rendezvous: it waits for the chief's last word."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from dataclasses import dataclass, field
from types import FrameType

from tfdist import log, process
from tfdist.cluster.spec import Cluster
from tfdist.errors import ClusterError, TaskLost
from tfdist.machine import stacks
from tfdist.machine.signals import ENDS, caught
from tfdist.machine.standstill import Standstill
from tfdist.rendezvous.messages import Connection, Gone, Message, Stranger
from tfdist.rendezvous.wording import seconds

__all__ = ["Session"]

_TICK = 1.0
_QUIET = 6.0
_PATIENCE = 10  # times the stall timeout


@dataclass
class Session:
    """Waits for the end of the job on the connection to the chief.

    Attributes:
        cluster: The job, seen from this task.
        connection: To the chief.
        heard: Messages that have come already.
    """

    cluster: Cluster
    connection: Connection
    heard: list[Message]
    _since: float = field(default_factory=time.monotonic, init=False)
    _told: bool = field(default=False, init=False)
    _asked: bool = field(default=False, init=False)
    _standstill: Standstill = field(default_factory=Standstill, init=False)
    _last_word: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        self.connection.keep_alive(process.stall_timeout())

    def wait(self) -> None:
        """Tells the chief that this task serves; returns once the job has ended well.

        A chief says something every two seconds, unless a library that it calls lets no other
        thread run (it loads a large pickle): so its silence is borne for long.

        Raises:
            TaskLost: The chief said that the job has ended badly, or is gone.
        """
        if self.connection.socket.fileno() < 0:
            raise ClusterError("an end that was waited for already; wait for it once")
        try:
            with contextlib.suppress(Gone):  # its last word may still wait to be read
                self.connection.send({"say": "serving"})
            with selectors.DefaultSelector() as selector:
                selector.register(self.connection.socket, selectors.EVENT_READ)
                while True:
                    while self.heard:
                        if self._obey(self.heard.pop(0)):
                            return
                    self._listen(selector)
        except Gone as gone:
            if self._asked:
                _end_by_signal()
            how = (
                "can no longer be reached: its machine has stopped, or the network was cut"
                if gone.unreachable
                else "closed its connection without a last word: its process was killed"
            )
            raise TaskLost(self._lost(how)) from None
        except Stranger as stranger:
            raise TaskLost(self._lost(f"has sent {stranger}")) from None
        finally:
            self.close()

    def asking_to_end(self) -> contextlib.AbstractContextManager[None]:
        """While it is entered, signals that ask for the end are told to the chief."""
        # The launcher hands Ctrl-C on to all tasks at once.
        ctrl_c = (signal.SIGINT,) if process.current().launched else ()
        return caught(self._ask_to_end, (*ENDS, *ctrl_c))

    def _ask_to_end(self, number: int, frame: FrameType | None) -> None:
        """Tells the chief that this task was sent a signal to end, so that the job saves first.

        Where nothing would be saved, the chief's answer ends this process by SIGTERM.
        """
        del frame
        self._asked = True
        try:
            self.connection.send({"say": "asked to end", "by": signal.Signals(number).name})
        except Gone:
            _end_by_signal()

    def close(self) -> None:
        """Leaves the chief, which takes this task for gone."""
        self.connection.close()

    def _listen(self, selector: selectors.BaseSelector) -> None:
        if selector.select(_TICK):
            self.heard += self.connection.receive()
            self._last_word = time.monotonic()
        now = time.monotonic()
        if self._standstill.is_over():
            self._last_word = now
        if now - self._last_word < _QUIET:
            self._told = False
        elif not self._told:
            self._told = True
            log.warning(
                "%s waits for %s, which has said nothing for %.0f s (its process is stopped, or "
                "its host cannot be reached)",
                self.cluster.task,
                self._chief,
                now - self._last_word,
            )
        if (silence := now - self._last_word) > _PATIENCE * process.stall_timeout():
            raise TaskLost(
                self._lost(
                    f"has said nothing for {silence:.0f} s: its process is stopped, or its host "
                    "cannot be reached"
                )
            )

    def _obey(self, message: Message) -> bool:
        """Returns whether it was the last word, of a job that has ended well."""
        said, text = message["say"], str(message.get("text", ""))[:4000]
        if said == "status":
            with contextlib.suppress(Gone):
                self.connection.send({"say": "here", "round": message.get("round")})
        elif said == "stacks":
            stacks.write(process.log_folder(), str(self.cluster.task))
        elif said == "end":
            _end_by_signal()
        elif said == "stop":
            raise TaskLost(f"{text}; this one, {self.cluster.task}, ends")
        elif said == "ended" and not message.get("well"):
            error = TaskLost(
                f"{self._chief} has failed{f' ({text})' if text else ''}, {self._when}; this task "
                "ends with it"
            )
            error.told = True
            raise error
        return said == "ended"

    def _lost(self, what: str) -> str:
        return (
            f"{self._chief} {what}, {self._when}; see the log of {self.cluster.chief}, and start "
            "the job again"
        )

    @property
    def _chief(self) -> str:
        return f"{self.cluster.chief} ({self.cluster.address(self.cluster.chief)})"

    @property
    def _when(self) -> str:
        waited = seconds(time.monotonic() - self._since)
        return f"{waited} after {self.cluster.task} had begun to serve it"


def _end_by_signal() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
