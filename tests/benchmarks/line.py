"""A line between the measuring process and one worker: JSON messages over a socket."""

from __future__ import annotations

import json
import socket
from typing import Any

__all__ = ["Line"]


class Line:
    """One end of the line.

    Args:
        connection: a connected socket.
        timeout: seconds to wait for a message.
    """

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        connection.settimeout(timeout)
        self._connection = connection
        self._incoming = connection.makefile("rb")

    def send(self, **message: Any) -> None:
        """Sends a message."""
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """Waits for the next message.

        Raises:
            ConnectionError: the other end has gone.
            TimeoutError: nothing came in time.
        """
        text = self._incoming.readline()
        if not text.endswith(b"\n"):
            raise ConnectionError("the other end of the line has gone")
        message: dict[str, Any] = json.loads(text)
        return message

    def close(self) -> None:
        """Closes this end."""
        self._incoming.close()
        self._connection.close()
