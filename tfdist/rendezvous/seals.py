"""What both sides of one connection put before each message once they know each other."""

from __future__ import annotations

import hmac

__all__ = ["Seals"]


class Seals:
    """The seals of one side: of what it sends, and of what comes."""

    SIZE = 32
    """Of a seal, in bytes."""

    def __init__(self, outgoing: bytes, incoming: bytes) -> None:
        """Begins to count.

        Args:
            outgoing: The key of what is sent.
            incoming: The key of what comes.
        """
        self._outgoing, self._incoming = outgoing, incoming
        self._sent = self._received = 0

    def seal(self, body: bytes) -> bytes:
        """Returns the seal of the next message that is sent."""
        self._sent += 1
        return _seal(self._outgoing, self._sent, body)

    def open(self, sealed: bytes) -> bytes:
        """Returns the body of the next message that has come.

        Raises:
            ValueError: Its seal is none that the other side made for it.
        """
        seal, body = sealed[: self.SIZE], sealed[self.SIZE :]
        self._received += 1
        if not hmac.compare_digest(seal, _seal(self._incoming, self._received, body)):
            raise ValueError("a message without the job's seal")
        return body


def _seal(key: bytes, number: int, body: bytes) -> bytes:
    return hmac.digest(key, number.to_bytes(8, "big") + body, "sha256")
