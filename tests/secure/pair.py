"""Two launchers of one job on this machine, each with a network of its own for its task."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tfdist.machine.ports import Reservation

__all__ = ["Pair", "Start", "launched"]


@dataclass(frozen=True)
class Pair:
    """Two launchers.

    Attributes:
        launchers: Their processes; standard error is in their output.
        ports: Of their tasks.
        folder: Under which lie the logs.
    """

    launchers: tuple[subprocess.Popen[str], ...]
    ports: tuple[int, ...]
    folder: Path

    def log(self, number: int) -> str:
        """What a task has said."""
        path = self.folder / f"logs{number}" / f"worker-{number}.log"
        return path.read_text() if path.exists() else ""

    def communicate(self) -> list[str]:
        """What the launchers have said at their end."""
        return [one.communicate(timeout=40)[0] for one in self.launchers]


class Start(Protocol):
    """Starts both, or one only."""

    def __call__(
        self,
        seconds: float,
        secrets: tuple[str, str] = ...,
        only: int | None = None,
        host: str = ...,
    ) -> Pair:
        """The tasks wait for so many seconds once they have talked."""


@contextlib.contextmanager
def launched(
    folder: Path,
    words: Sequence[str],
    secrets: tuple[str, str],
    only: int | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Pair]:
    """Starts `tfdist run --secure` for two tasks.

    Args:
        folder: For the spec and the logs.
        words: Options, the script and its arguments.
        secrets: The job's, as each knows it; "" for none.
        only: The number of the only one that is started; None for both.
        host: Of both tasks.
    """
    with Reservation(2) as ports, contextlib.ExitStack() as stack:
        spec = folder / "spec.json"
        at = [f"{host}:{port}" for port in ports.ports]
        spec.write_text(json.dumps({"cluster": {"worker": at}}))
        launchers = []
        for number in range(2) if only is None else (only,):
            secret = {"TFDIST_SECRET": secrets[number]} if secrets[number] else {}
            log_dir = str(folder / f"logs{number}")
            own = ["--cluster", str(spec), "--task", f"worker:{number}", "--log_dir", log_dir]
            launcher = subprocess.Popen(
                [sys.executable, "-m", "tfdist", "run", "--secure", "--grace", "1", *own, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **secret},
                start_new_session=True,
            )
            launchers.append(launcher)
            stack.callback(_end, launcher)
        yield Pair(tuple(launchers), ports.ports, folder)


def _end(launcher: subprocess.Popen[str]) -> None:
    launcher.kill()
    launcher.communicate(timeout=20)
