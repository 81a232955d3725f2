"""A shell at a terminal, in which somebody types."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|[^\x08]\x08|\x07")


class InteractiveShell:
    """Types into a shell, and reads what it shows.

    Args:
        command: the shell's.
        folder: where it works; its home, too.
        seconds: how long an answer is waited for.
    """

    def __init__(self, command: Sequence[str], folder: Path, seconds: float = 20) -> None:
        self._seconds = seconds
        self._pid, self._terminal = pty.fork()
        if not self._pid:  # the child
            try:
                os.chdir(folder)
                environ = {**os.environ, "PS1": "> ", "TERM": "xterm", "HOME": str(folder)}
                os.execvpe(command[0], list(command), {**environ, "COLUMNS": "200"})
            finally:
                os._exit(127)

    def __enter__(self) -> InteractiveShell:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.close(self._terminal)
        os.waitpid(self._pid, 0)

    def types(self, text: str, until: str) -> str:
        """Types a text, and waits until something is shown.

        Returns:
            All that was shown since, without escapes.
        """
        os.write(self._terminal, text.encode())
        shown = ""
        deadline = time.monotonic() + self._seconds
        while until not in _ESCAPE.sub("", shown):
            assert time.monotonic() < deadline, f"{until!r} is not in {shown!r}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                shown += os.read(self._terminal, 65536).decode(errors="replace")
        return _ESCAPE.sub("", shown)
