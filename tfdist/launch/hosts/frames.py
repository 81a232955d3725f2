"""The messages between a launcher and its agents: a JSON object, and bytes behind it.

A frame is the lengths of both in 4 bytes each (big endian), and both. Before an agent's first frame
comes `MARK`, as the shell of a host may print something of its own before.
"""

from __future__ import annotations

import json
import struct

from tfdist.rendezvous.message_forms import Message, read_message

__all__ = ["MARK", "FrameReader", "frame"]

MARK = b"\n\0tfdist agent\0\n"
_HEAD = struct.Struct(">II")
_MOST_BYTES = 1 << 26
_MOST_NOISE = 1 << 20


def frame(message: Message, data: bytes = b"") -> bytes:
    """Writes a frame.

    Args:
        message: An object with a text `say`.
        data: What goes along.
    """
    body = json.dumps(message).encode()
    return _HEAD.pack(len(body), len(data)) + body + data


class FrameReader:
    """Reads frames from a stream of bytes."""

    def __init__(self, *, after_mark: bool) -> None:
        """Begins to read.

        Args:
            after_mark: Whether frames begin behind a mark, and what is before it is passed over.
        """
        self._waits = after_mark
        self._read = bytearray()

    @property
    def noise(self) -> bytes:
        """What came before the mark, where that has not come yet."""
        return bytes(self._read) if self._waits else b""

    def feed(self, data: bytes) -> list[tuple[Message, bytes]]:
        """Takes the next bytes; returns the messages that they complete.

        Raises:
            ValueError: They are none.
        """
        self._read += data
        if self._waits:
            at = self._read.find(MARK)
            if at < 0:
                if len(self._read) > _MOST_NOISE:
                    raise ValueError("too much that is no message")
                return []
            del self._read[: at + len(MARK)]
            self._waits = False
        messages = []
        while len(self._read) >= _HEAD.size:
            body, along = _HEAD.unpack_from(self._read)
            if body + along > _MOST_BYTES:
                raise ValueError(f"a message of {body + along} bytes")
            end = _HEAD.size + body + along
            if len(self._read) < end:
                break
            message = read_message(bytes(self._read[_HEAD.size : _HEAD.size + body]))
            messages.append((message, bytes(self._read[_HEAD.size + body : end])))
            del self._read[:end]
        return messages
