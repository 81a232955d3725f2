"""The messages of a rendezvous: small JSON objects in frames that no other protocol speaks.

A frame is `MAGIC`, the length of the body in 4 bytes (big endian) and the body, a JSON object. The
empty line in `MAGIC` makes servers that read lines (HTTP, for one) answer at once that they do not
understand, which is how a task can tell what it has reached. Once both sides have proven that they
know the job's secret (`greeting.py`), the body begins with its seal.

Nothing that comes is believed before it has the form that it should have, and nothing is run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

from tfdist.rendezvous.message_forms import Message, read_message
from tfdist.rendezvous.seals import Seals

if TYPE_CHECKING:
    from tfdist.rendezvous.greeting import Greeting

__all__ = [
    "MAGIC",
    "MAX_BYTES",
    "MAX_UNPROVEN_BYTES",
    "Connection",
    "Gone",
    "Message",
    "Refusal",
    "Stranger",
    "describe",
]

MAGIC = b"TFDIST\r\n\r\n"
MAX_BYTES = 1 << 20
"""The largest body, in bytes: the addresses of some 20,000 tasks."""

MAX_UNPROVEN_BYTES = 1 << 16
"""The largest body of somebody who has proven nothing yet."""

_LENGTH = struct.Struct(">I")
_HEAD = len(MAGIC) + _LENGTH.size
_UNREACHABLE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN)


class Gone(Exception):
    """The other side has closed the connection, or it was lost.

    Attributes:
        unreachable: Whether the other side's machine no longer answers, where that is known.
    """

    def __init__(self, cause: OSError | None = None) -> None:
        super().__init__()
        self.unreachable = cause is not None and cause.errno in _UNREACHABLE


class Stranger(Exception):
    """The other side does not speak as a tfdist task does."""


class Refusal(Stranger):
    """The other side speaks as a tfdist task does, and has not proven to belong to the job.

    Attributes:
        answer: What to tell it; None for nothing.
        visit: What it has come for, where it is no task that takes part; see `Newcomer`.
    """

    def __init__(self, text: str, answer: Message | None = None, visit: str = "") -> None:
        super().__init__(text)
        self.answer = answer
        self.visit = visit


class Connection:
    """One side of a connection between two tasks; it never blocks.

    Attributes:
        socket: The connected socket.
        peer: Who is on the other side, as "10.0.0.2:54321".
    """

    def __init__(self, connected: socket.socket, greeting: Greeting | None = None) -> None:
        """Takes over a connected socket.

        Args:
            connected: The socket; closed with the connection.
            greeting: This side's part in the first words, which are spoken while the connection is
                read from; what is sent before their end waits for it. None where both sides are
                of one process, and there are none.
        """
        self.socket = connected
        self.socket.setblocking(False)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            host, port = self.socket.getpeername()[:2]
            self.peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        except OSError:  # it may be gone already; whoever reads from it will be told
            self.peer = "an unknown address"
        self._greeting = greeting
        self._seals: Seals | None = None
        self._read = bytearray()
        self._outbox: deque[Message] = deque()
        self._unsent = bytearray()
        self._sending = False
        first = greeting.begin() if greeting is not None else None
        if first is not None:
            self._put(first)

    def receive(self) -> list[Message]:
        """Reads what has come.

        Returns:
            The whole messages among it, maybe none.

        Raises:
            Gone: The other side has closed the connection, and there is no message left.
            Refusal: It has not proven to belong to the job.
            Stranger: What came is no message of a tfdist task.
        """
        ended = False
        cause: OSError | None = None
        while len(self._read) <= self._most:
            try:
                chunk = self.socket.recv(65536)
            except BlockingIOError:
                break
            except OSError as error:
                ended, cause = True, error
                break
            if not chunk:
                ended = True
                break
            self._read += chunk
        messages = []
        while (message := self._next()) is not None:
            if self.is_greeting:
                self._greet(message)
            else:
                messages.append(message)
        if ended and not messages:
            raise Gone(cause)
        return messages

    @property
    def is_greeting(self) -> bool:
        """Whether the first words are still being spoken."""
        return self._greeting is not None and self._seals is None

    @property
    def _most(self) -> int:
        return MAX_UNPROVEN_BYTES if self.is_greeting else MAX_BYTES + Seals.SIZE

    def _next(self) -> Message | None:
        if bytes(self._read[: len(MAGIC)]) != MAGIC[: len(self._read)]:
            raise Stranger(describe(bytes(self._read[:400])))
        if len(self._read) < _HEAD:
            return None
        (length,) = _LENGTH.unpack_from(self._read, len(MAGIC))
        if length > self._most:
            raise Stranger(f"a message of {length} bytes, where {self._most} are the most")
        if len(self._read) < _HEAD + length:
            return None
        body = bytes(self._read[_HEAD : _HEAD + length])
        del self._read[: _HEAD + length]
        try:
            return read_message(body if self._seals is None else self._seals.open(body))
        except ValueError as error:
            raise Stranger(str(error)) from None

    def _greet(self, message: Message) -> None:
        assert self._greeting is not None
        try:
            answer, seals = self._greeting.hear(message)
        except Refusal as refusal:
            if refusal.answer is not None:
                self._put(refusal.answer)
                with contextlib.suppress(Gone):
                    self.flush()
            raise
        if answer is not None:
            self._put(answer)
        self._seals = seals
        with contextlib.suppress(Gone):  # its last words may still be there to be read
            self.flush()

    def send(self, message: Message) -> None:
        """Sends a message, as far as the other side takes it now; see `flush` for the rest.

        Args:
            message: What to say; at most `MAX_BYTES` as JSON.

        Raises:
            Gone: The connection is lost.
        """
        self._outbox.append(message)
        self.flush()

    def flush(self) -> bool:
        """Sends what is left to send, as far as the other side takes it now.

        Returns:
            Whether everything is sent.

        Raises:
            Gone: The connection is lost, or the other side does not read.
        """
        if self._sending:  # in a signal handler, inside of a call of this: which goes on with it
            return False
        self._sending = True
        try:
            return self._flush()
        finally:
            self._sending = False

    def _flush(self) -> bool:
        while self._unsent or (self._outbox and not self.is_greeting):
            while self._outbox and not self.is_greeting:
                self._put(self._outbox.popleft())
            try:
                del self._unsent[: self.socket.send(self._unsent)]
            except BlockingIOError:
                if len(self._unsent) > 2 * MAX_BYTES:
                    raise Gone from None
                return False
            except OSError as error:
                raise Gone(error) from None
        return not self._outbox

    def _put(self, message: Message) -> None:
        body = json.dumps(message).encode()
        if self._seals is not None:
            body = self._seals.seal(body) + body
        self._unsent += MAGIC + _LENGTH.pack(len(body)) + body

    def keep_alive(self, within: float = 30.0) -> None:
        """Has the kernel find out by itself that the other side's machine has vanished.

        A process that ends closes its connections; a machine that loses its power says nothing.

        Args:
            within: Seconds after which the connection is lost, about.
        """
        idle = max(1, int(within / 3))
        wanted = (
            ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
            ("TCP_KEEPIDLE", socket.IPPROTO_TCP, idle),
            ("TCP_KEEPALIVE", socket.IPPROTO_TCP, idle),  # the same under macOS
            ("TCP_KEEPINTVL", socket.IPPROTO_TCP, max(1, int(within / 6))),
            ("TCP_KEEPCNT", socket.IPPROTO_TCP, 4),
            ("TCP_USER_TIMEOUT", socket.IPPROTO_TCP, int(within * 1000)),  # for what was sent
        )
        for name, level, value in wanted:
            if hasattr(socket, name):
                with contextlib.suppress(OSError):
                    self.socket.setsockopt(level, getattr(socket, name), value)

    def close(self) -> None:
        """Closes the connection."""
        self.socket.close()


def describe(first: bytes) -> str:
    """Says who it probably is that speaks another protocol.

    Args:
        first: The first bytes that came.

    Returns:
        For example "a web server, which said 'HTTP/1.1 400 Bad Request'".
    """
    if len(first) >= 9 and first[3] == 4 and first[:2] == b"\0\0" and first[5:9] == b"\0\0\0\0":
        return "a gRPC server, as every TensorFlow task is one once it has started"
    shown = repr(first.splitlines()[0][:40].decode("ascii", errors="backslashreplace"))
    if first[:5] == b"HTTP/" or first[:5].lower() in (b"<!doc", b"<html"):
        return f"a web server, which said {shown}"
    if first[:4] == b"SSH-":
        return f"an SSH server, which said {shown}"
    if first.split(b" ", 1)[0] in (b"GET", b"HEAD", b"POST", b"PUT", b"PRI", b"OPTIONS"):
        return f"a web client, which said {shown}"
    return f"something that said {shown}"
