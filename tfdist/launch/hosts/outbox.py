"""Frames on their way to an agent: said by several threads, and in signal handlers."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import IO

__all__ = ["Outbox"]

_CHUNK = 1 << 16


class Outbox:
    """What is to be written into a pipe, each frame whole and once; nothing of it ever blocks.

    A call inside of another one, by a second thread or by a signal handler of the same one, leaves
    what it brings to the first, which goes on with it.
    """

    def __init__(self, sink: IO[bytes], first: bytes) -> None:
        """Takes over a pipe.

        Args:
            sink: Its end; closed with this.
            first: What is to be written first.
        """
        os.set_blocking(sink.fileno(), False)
        self._sink = sink
        self._frames = deque([first])
        self._unsent = bytearray()  # changed under the lock alone
        self._lock = threading.Lock()
        self._closes = False

    @property
    def is_empty(self) -> bool:
        """Whether everything has been written."""
        return not self._frames and not self._unsent

    def add(self, data: bytes) -> None:
        """Writes a frame, as far as the pipe takes it now; see `flush`."""
        self._frames.append(data)
        self.flush()

    def flush(self) -> None:
        """Writes what is left, as far as the pipe takes it now."""
        more = True
        # What a second call has brought just before the lock was let go is looked for once more.
        while more and self._lock.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._lock.release()
            more = bool(self._frames) or (self._closes and not self._sink.closed)

    def close(self) -> None:
        """Closes the pipe; what has not been written is lost."""
        self._closes = True
        self.flush()

    def _write(self) -> None:
        while not self._closes:
            while self._frames:
                self._unsent += self._frames.popleft()
            if not self._unsent:
                return
            try:
                del self._unsent[: os.write(self._sink.fileno(), self._unsent[:_CHUNK])]
            except BlockingIOError:
                return
            except OSError:  # nobody reads it; what the agent has said is still to be read
                self._unsent.clear()
        self._frames.clear()
        self._unsent.clear()
        self._sink.close()
