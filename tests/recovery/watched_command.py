"""A command whose output is read while it runs, line by line, each with its time."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["DEADLINE", "WatchedCommand"]

DEADLINE = 150.0
"""Seconds that a command may take."""


class WatchedCommand:
    """Runs a command in a session of its own.

    Args:
        command: the program and its arguments.
        folder: where it runs.

    Attributes:
        lines: what it has written until now, with the times on the clock of `time.monotonic`.
    """

    def __init__(self, command: Sequence[object], folder: Path) -> None:
        self.lines: list[tuple[float, str]] = []
        self._closed: float | None = None
        self._new = threading.Condition()
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            cwd=folder,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                with self._new:
                    self.lines.append((time.monotonic(), line.rstrip()))
                    self._new.notify_all()
        self._closed = time.monotonic()

    def find(self, pattern: str, within: float) -> float:
        """Waits for a line; returns its time."""
        until = time.monotonic() + within
        with self._new:
            while not (found := [at for at, line in self.lines if re.search(pattern, line)]):
                left = until - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    raise AssertionError(f"no {pattern!r} in:\n{self.output}")
                self._new.wait(min(left, 0.2))
        return found[0]

    def end(self) -> tuple[int, float]:
        """Waits for the end; returns the exit code, and when it was."""
        code = self.process.wait(DEADLINE)
        self._reader.join(5.0)
        return code, self._closed or time.monotonic()

    def kill(self) -> None:
        """Ends what is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def output(self) -> str:
        """All that it has written."""
        return "\n".join(line for _, line in self.lines)
