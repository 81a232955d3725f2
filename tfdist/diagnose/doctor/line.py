"""A doctor's connection to another one's: one asks, the other answers, and neither waits long."""

from __future__ import annotations

import concurrent.futures
import errno
import selectors
import socket
import time
from collections.abc import Iterable, Mapping

from tfdist.cluster import Cluster
from tfdist.cluster.address import Address
from tfdist.cluster.secret import Secret
from tfdist.diagnose.doctor.visit import Reach
from tfdist.machine.hosts import look_up
from tfdist.rendezvous.greeting import Newcomer
from tfdist.rendezvous.handshake import Handshake
from tfdist.rendezvous.messages import Connection, Gone, Message, Refusal, Stranger

__all__ = ["REACH_SECONDS", "Caller", "Line"]

REACH_SECONDS = 3.0
"""How long an attempt to reach a task takes at most."""

_AT_ONCE = 32


class Line:
    """One side of such a connection.

    Args:
        connection: Closed with the line.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._heard: list[Message] = []

    def say(self, message: Message, until: float) -> None:
        """Sends a message.

        Args:
            message: What to say.
            until: When to give up, on the clock of `time.monotonic`.

        Raises:
            Gone: The other side has gone.
            TimeoutError: It does not take it.
        """
        self._connection.send(message)
        while not self._connection.flush():
            # The first words of the greeting come before what is to be said.
            if self._wait(until, writes=True):
                self._heard += self._connection.receive()

    def hear(self, until: float) -> Message:
        """Returns the next message.

        Args:
            until: When to give up, on the clock of `time.monotonic`.

        Raises:
            Gone: The other side has gone.
            Refusal: It has not proven to belong to the job, or says that this side has not.
            Stranger: It speaks another protocol.
            TimeoutError: It says nothing.
        """
        while not self._heard:
            self._wait(until)
            self._heard += self._connection.receive()
        return self._heard.pop(0)

    def close(self) -> None:
        """Closes it."""
        self._connection.close()

    def _wait(self, until: float, *, writes: bool = False) -> bool:
        """Returns once there is something to be read, or to be written; whether it is the first."""
        wanted = selectors.EVENT_READ
        # While it greets, what waits to be sent waits for the other side's words.
        if writes and not self._connection.is_greeting:
            wanted |= selectors.EVENT_WRITE
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection.socket, wanted)
            found = selector.select(max(0.0, until - time.monotonic()))
        if not found:
            raise TimeoutError
        return bool(found[0][1] & selectors.EVENT_READ)


class Caller:
    """Reaches the doctors of other tasks.

    Args:
        cluster: The job.
        handshake: Of the task that calls.
        secret: The job's.
    """

    def __init__(self, cluster: Cluster, handshake: Handshake, secret: Secret) -> None:
        self._cluster = cluster
        self._handshake = handshake
        self._secret = secret

    def call(self, task: str, until: float, visit: str) -> Line:
        """Connects to a task's address.

        Args:
            task: Which.
            until: When to give up, on the clock of `time.monotonic`.
            visit: What for; see `Newcomer`.

        Raises:
            OSError: There is no connection; a TimeoutError where there is no answer.
        """
        address = Address.parse(self._cluster.address(task))
        found = look_up([address.host], until - time.monotonic())[address.host]
        if isinstance(found, str):
            raise OSError(0, found)
        reason: OSError = TimeoutError()
        for ip in found:
            left = until - time.monotonic()
            if left <= 0:
                break
            one = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
            try:
                one.settimeout(left)
                one.connect((ip, address.port))
                if one.getsockname() == one.getpeername():  # the kernel joined it to itself
                    raise OSError(errno.ECONNREFUSED, "connection refused")
                return Line(Connection(one, Newcomer(self._handshake, self._secret, visit)))
            except OSError as error:
                one.close()
                reason = error
        raise reason

    def reach(self, task: str) -> Reach:
        """Tries whether a task's doctor can be reached."""
        until = time.monotonic() + REACH_SECONDS
        try:
            line = self.call(task, until, "probe")
        except TimeoutError:
            return Reach("silent")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return Reach("closed" if error.errno == errno.ECONNREFUSED else "silent", reason)
        try:
            line.say({"say": "probe"}, until)
            line.hear(until)
            begin = time.monotonic()
            line.say({"say": "probe"}, until)
            answer = line.hear(until)
            if answer["say"] != "probed" or answer.get("task") != task:
                return Reach("other", f"the doctor of {str(answer.get('task'))[:40]}")
            return Reach("met", seconds=time.monotonic() - begin)
        except Refusal as refusal:
            return Reach("other", f"a task of tfdist that says: {refusal}")
        except Stranger as stranger:
            return Reach("other", str(stranger))
        except Gone:
            return Reach("other", "something that closed the connection")
        except TimeoutError:
            return Reach("other", "something that takes connections and says nothing")
        finally:
            line.close()

    def reach_all(self, tasks: Iterable[str]) -> Mapping[str, Reach]:
        """Tries several, at once."""
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            asked = {task: pool.submit(self.reach, task) for task in tasks}
            return {task: one.result() for task, one in asked.items()}
