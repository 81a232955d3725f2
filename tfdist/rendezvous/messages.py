"""The messages of a rendezvous: small JSON objects in frames that no other protocol speaks.

A frame is `MAGIC`, the length of the body in 4 bytes (big endian) and the body, a JSON object. The
empty line in `MAGIC` makes servers that read lines (HTTP, for one) answer at once that they do not
understand, which is how a task can tell what it has reached.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import struct
from typing import Any

__all__ = ["MAGIC", "MAX_BYTES", "Connection", "Gone", "Message", "Stranger", "describe"]

Message = dict[str, Any]

MAGIC = b"TFDIST\r\n\r\n"
MAX_BYTES = 1 << 20
"""The largest body, in bytes: the addresses of some 20,000 tasks."""

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


class Connection:
    """One side of a connection between two tasks; it never blocks.

    Attributes:
        socket: The connected socket.
        peer: Who is on the other side, as "10.0.0.2:54321".
    """

    def __init__(self, connected: socket.socket) -> None:
        """Takes over a connected socket.

        Args:
            connected: The socket; closed with the connection.
        """
        self.socket = connected
        self.socket.setblocking(False)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            host, port = self.socket.getpeername()[:2]
            self.peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        except OSError:  # it may be gone already; whoever reads from it will be told
            self.peer = "an unknown address"
        self._read = bytearray()
        self._unsent = bytearray()

    def receive(self) -> list[Message]:
        """Reads what has come.

        Returns:
            The whole messages among it, maybe none.

        Raises:
            Gone: The other side has closed the connection, and there is no message left.
            Stranger: What came is no message of a tfdist task.
        """
        ended = False
        cause: OSError | None = None
        while len(self._read) <= MAX_BYTES:
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
            messages.append(message)
        if ended and not messages:
            raise Gone(cause)
        return messages

    def _next(self) -> Message | None:
        if bytes(self._read[: len(MAGIC)]) != MAGIC[: len(self._read)]:
            raise Stranger(describe(bytes(self._read)))
        if len(self._read) < _HEAD:
            return None
        (length,) = _LENGTH.unpack_from(self._read, len(MAGIC))
        if length > MAX_BYTES:
            raise Stranger(f"a message of {length} bytes, where {MAX_BYTES} are the most")
        if len(self._read) < _HEAD + length:
            return None
        body = bytes(self._read[_HEAD : _HEAD + length])
        del self._read[: _HEAD + length]
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            raise Stranger("a message that is not JSON") from None
        if not isinstance(message, dict) or not isinstance(message.get("say"), str):
            raise Stranger("a message that says nothing")
        return message

    def send(self, message: Message) -> None:
        """Sends a message, as far as the other side takes it now; see `flush` for the rest.

        Args:
            message: What to say; at most `MAX_BYTES` as JSON.

        Raises:
            Gone: The connection is lost.
        """
        body = json.dumps(message).encode()
        self._unsent += MAGIC + _LENGTH.pack(len(body)) + body
        self.flush()

    def flush(self) -> bool:
        """Sends what is left to send, as far as the other side takes it now.

        Returns:
            Whether everything is sent.

        Raises:
            Gone: The connection is lost, or the other side does not read.
        """
        while self._unsent:
            try:
                del self._unsent[: self.socket.send(self._unsent)]
            except BlockingIOError:
                if len(self._unsent) > 2 * MAX_BYTES:
                    raise Gone from None
                return False
            except OSError as error:
                raise Gone(error) from None
        return True

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
