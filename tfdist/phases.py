"""What this process does, told line by line in a file to whoever watches the job from outside.

Only where TFDIST_PHASES names a folder, as `tfdist chaos` does, which strikes at such a moment;
else nothing is written. Each task has a file of its own there, and adds a line as it moves on:

    seconds phase epoch stage step saving

by the clock of `time.monotonic`, which all processes of a machine share. A stage is 0 in the steps
of an epoch and 1 after them; saving is 1 while a checkpoint is being written, beside whatever the
phase is. Before the first line a task starts up.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Iterator

from tfdist import process

__all__ = ["BETWEEN", "FOLDER_VARIABLE", "are_told", "during", "saving", "tell"]

FOLDER_VARIABLE = "TFDIST_PHASES"
"""Names the folder; without it nothing is told."""

BETWEEN = "between"
"""In callbacks, at borders, in the program: none of the phases that are told by name."""


def are_told() -> bool:
    """Whether anybody watches."""
    return _FOLDER != ""


def tell(phase: str, epoch: int | None = None, step: int | None = None) -> None:
    """Says what this process does from now on.

    Args:
        phase: "training", "validation" or `BETWEEN`.
        epoch: which one, from 0; None for the same as before.
        step: of the epoch, from 0; None for the same as before.
    """
    if _FOLDER:
        _teller().tell(phase, epoch, step)


@contextlib.contextmanager
def during(phase: str) -> Iterator[None]:
    """Says that it does something else until the end of the block: "tracing"."""
    if not _FOLDER:
        yield
        return
    teller = _teller()
    before = teller.phase
    teller.tell(phase)
    try:
        yield
    finally:
        teller.tell(before)


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """Says that a checkpoint is being written, in whichever thread, until the end of the block."""
    if not _FOLDER:
        yield
        return
    teller = _teller()
    teller.save(True)
    try:
        yield
    finally:
        teller.save(False)


class _Teller:
    """Writes the lines of this process."""

    def __init__(self, folder: str) -> None:
        self.phase = BETWEEN
        self._epoch = self._stage = self._step = 0
        self._saving = False
        self._lock = threading.Lock()
        task = process.current().task
        name = "alone" if task is None else str(task).replace(":", "-")
        self._file = -1
        with contextlib.suppress(OSError):  # then it is only not known
            how = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._file = os.open(os.path.join(folder, name), how, 0o600)

    def tell(self, phase: str, epoch: int | None = None, step: int | None = None) -> None:
        with self._lock:
            if epoch is not None and epoch != self._epoch:
                self._epoch, self._step = epoch, 0
            self._stage = {"training": 0, "validation": 1}.get(phase, self._stage)
            if epoch is not None and phase == BETWEEN:
                self._stage = 0
            self._step = self._step if step is None else step
            self.phase = phase
            self._write()

    def save(self, is_saving: bool) -> None:
        with self._lock:
            self._saving = is_saving
            self._write()

    def _write(self) -> None:
        line = (
            f"{time.monotonic():.4f} {self.phase} {self._epoch} {self._stage} {self._step} "
            f"{int(self._saving)}\n"
        )
        with contextlib.suppress(OSError):
            os.write(self._file, line.encode())


@functools.cache
def _teller() -> _Teller:
    return _Teller(_FOLDER)


_FOLDER = os.environ.get(FOLDER_VARIABLE, "")
