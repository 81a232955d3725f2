"""How far this process has come, told record by record in a file to whoever shows it.

Only where TFDIST_STEPS names a folder, as `tfdist.run` does; else nothing is written. Each task has
a file of its own there, and adds a line of JSON, a `Steps`, at the end of a chunk of steps, at
most five times a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from tfdist import process

__all__ = ["FOLDER_VARIABLE", "Steps", "StepsReader", "are_told", "begin", "tell"]

FOLDER_VARIABLE = "TFDIST_STEPS"
"""Names the folder; without it nothing is told."""

_LEAST_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Steps:
    """How far a task has come.

    Attributes:
        at: Seconds, by the clock of `time.monotonic`.
        mode: "train", "test" or "predict".
        epoch: Which one, from 0.
        epochs: How many there will be.
        step: How many steps of this epoch are done.
        steps: How many it has; None where nobody knows before its end.
        rows: Of a global batch; 0 where it is not known.
        logs: The metrics at this step, by name.
    """

    at: float
    mode: str = "train"
    epoch: int = 0
    epochs: int = 1
    step: int = 0
    steps: int | None = None
    rows: int = 0
    logs: Mapping[str, float] = dataclasses.field(default_factory=dict)


def are_told() -> bool:
    """Whether anybody listens."""
    return _FOLDER != ""


def begin(*, epochs: int, steps: int | None, rows: int) -> None:
    """Says what a `fit` is about to do.

    Args:
        epochs: How many there will be.
        steps: How many each has; None where nobody knows.
        rows: Of a global batch; 0 where it is not known.
    """
    if _FOLDER:
        _teller().change(mode="train", epoch=0, epochs=epochs, step=0, steps=steps, rows=rows)


def tell(mode: str, step: int, logs: Mapping[str, object], epoch: int | None = None) -> None:
    """Says how many steps of an epoch, or of an evaluation, are done.

    Args:
        mode: "train" or "test".
        step: How many.
        logs: The metrics at this step; those that are no single number are left out.
        epoch: Which one, from 0; None for the same as before.
    """
    if _FOLDER:
        _teller().step(mode, step, logs, epoch)


class StepsReader:
    """Reads what tasks tell, as it comes.

    Example:
        >>> reader = StepsReader(folder)
        >>> reader.newest()  # of each task that has told anything
        {'worker:0': Steps(at=..., step=40, ...)}
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._newest: dict[str, Steps] = {}

    def newest(self) -> dict[str, Steps]:
        """What each task has told last, by its name."""
        for path in self._folder.glob("*.steps"):
            with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                whole, end, _ = file.read().rpartition(b"\n")
                self._read[path] = self._read.get(path, 0) + len(whole) + len(end)
                if whole:
                    told = json.loads(whole.rpartition(b"\n")[2])
                    self._newest[path.stem.replace("-", ":")] = Steps(**told)
        return self._newest


class _Teller:
    """Writes the lines of this process."""

    def __init__(self, folder: str) -> None:
        self._now = Steps(0.0)
        task = process.current().task
        name = "alone" if task is None else str(task).replace(":", "-")
        self._file = -1
        with contextlib.suppress(OSError):  # then it is only not known
            how = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._file = os.open(os.path.join(folder, f"{name}.steps"), how, 0o600)

    def change(self, **changed: object) -> None:
        self._now = dataclasses.replace(self._now, at=time.monotonic(), **changed)  # type: ignore[arg-type]
        with contextlib.suppress(OSError):
            os.write(self._file, json.dumps(dataclasses.asdict(self._now)).encode() + b"\n")

    def step(self, mode: str, step: int, logs: Mapping[str, object], epoch: int | None) -> None:
        is_last = self._now.steps is not None and step >= self._now.steps
        if time.monotonic() < self._now.at + _LEAST_SECONDS and not is_last:
            return
        numbers = {}
        for name, value in logs.items():
            with contextlib.suppress(TypeError, ValueError):
                numbers[name] = float(value)  # type: ignore[arg-type]
        epoch = self._now.epoch if epoch is None else epoch
        self.change(mode=mode, step=step, logs=numbers, epoch=epoch)


@functools.cache
def _teller() -> _Teller:
    return _Teller(_FOLDER)


_FOLDER = os.environ.get(FOLDER_VARIABLE, "")
