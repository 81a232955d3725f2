"""Tells whoever has started this task how far it is, in a pipe that was handed down to it.

Nothing is told without one, or where nobody reads: a record that has no room is left out, and
training waits for nothing. A thread does it twice a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfdist.progress.phase_clock import PhaseClock
from tfdist.progress.phase_seconds import Phase, PhaseSeconds
from tfdist.progress.record import Record, Span

__all__ = [
    "PIPE_VARIABLE",
    "WISH_VARIABLE",
    "Measured",
    "Teller",
    "numbers_of",
    "pipe_variable",
    "saving",
    "teller",
]

WISH_VARIABLE = "TFDIST_PROGRESS"
"""What tasks are to tell whoever starts them: "records", or "spans" too; else they tell nothing."""

PIPE_VARIABLE = "TFDIST_PROGRESS_PIPE"
"""The pipe: its descriptor, the number that tells it from any other, and what is wanted."""

_SPANS = "spans"
_SECONDS = 0.5
_MOST_SPANS = 400  # between two records; the rest is left out
_MOST_UNSENT = 1 << 16


def pipe_variable(descriptor: int, wish: str) -> str:
    """What `PIPE_VARIABLE` says of a pipe's end to write to.

    A process that inherits the variable and not the pipe may have something else at its number.

    Args:
        descriptor: of the pipe, in the task.
        wish: as `WISH_VARIABLE` says it.
    """
    return f"{descriptor}:{os.fstat(descriptor).st_ino}:{wish}"


@dataclasses.dataclass(frozen=True)
class Measured:
    """Where the training stands now.

    Attributes:
        seconds: by phase, since `fit` began.
        phase: now; "" outside of `fit`.
        moved: a number that changes as it moves.
    """

    seconds: PhaseSeconds
    phase: Phase | str
    moved: object


class Teller:
    """Writes the records of this process.

    Args:
        descriptor: of the pipe; it does not block.
        spans: whether to tell each phase.
        seconds: between two records.
    """

    def __init__(self, descriptor: int, *, spans: bool, seconds: float = _SECONDS) -> None:
        self._file = descriptor
        self._wants_spans = spans
        self._every = seconds
        self._record = Record(0.0)
        self._seconds = PhaseSeconds()
        self._measure: Callable[[], Measured] | None = None
        self._unsent = b""
        self._spans: deque[Span] = deque()
        self._lock = threading.Lock()
        self._moved: object = None
        self._moved_at = time.monotonic()
        self._savings = 0
        self._wake = threading.Event()
        self._pid = os.getpid()
        self.tell()
        threading.Thread(target=self._run, name="tfdist-progress", daemon=True).start()

    @contextlib.contextmanager
    def fitting(
        self, clock: PhaseClock, measure: Callable[[], Measured], **about: int | None
    ) -> Iterator[None]:
        """While a `fit` runs.

        Args:
            clock: its phases; ended ones are told.
            measure: where it stands.
            about: `epochs`, `steps` and `batch`, as in a `Record`.
        """
        changes: dict[str, Any] = {"fit": self._record.fit + 1, "epoch": 0, "step": 0, "logs": {}}
        self.update(**changes, validation={}, **about)
        self._measure = measure
        clock.on_end = self._note if self._wants_spans else None
        try:
            yield
        finally:
            self.tell()
            self._measure, clock.on_end = None, None
            self.tell()  # what follows may be the end, in which no thread runs

    def update(self, **changes: Any) -> None:
        """Notes what the next records say; see `Record`."""
        self._record = dataclasses.replace(self._record, **changes)

    def saw_batch(self, rows: int) -> None:
        """Notes the rows of a global batch that was trained on; the largest one is told."""
        self.update(batch=max(rows, self._record.batch or 0))

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """While a checkpoint is being written, in whichever thread."""
        self._savings += 1
        try:
            yield
        finally:
            self._savings -= 1

    def tell(self) -> None:
        """Writes a record now."""
        if os.getpid() != self._pid:  # a fork has no thread, and is not this task
            return
        try:
            self._tell()
        except (TypeError, ValueError):  # a number that is none: training goes on untold
            self._wake.set()
            self._measure = None

    def _tell(self) -> None:
        with self._lock:
            now = time.monotonic()
            measured = None if self._measure is None else self._measure()
            moved = None if measured is None else (measured.phase, measured.moved)
            if moved != self._moved or moved is None:
                self._moved, self._moved_at = moved, now
            if measured is not None:
                self._seconds = measured.seconds
            spans = tuple(self._spans.popleft() for _ in range(len(self._spans)))
            record = dataclasses.replace(
                self._record,
                at=now,
                phase="" if measured is None else measured.phase,
                still=now - self._moved_at,
                seconds=self._seconds,
                saving=self._savings > 0,
                spans=spans,
            )
            if len(self._unsent) < _MOST_UNSENT:
                self._unsent += record.to_line()
            self._write()

    def close(self) -> None:
        """Tells nothing more."""
        self._wake.set()

    def _run(self) -> None:
        while not self._wake.wait(self._every):
            self.tell()

    def _note(self, phase: Phase, began: float, ended: float) -> None:
        if len(self._spans) < _MOST_SPANS:
            self._spans.append(Span(phase, began, ended - began, self._record.step))

    def _write(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._file, self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # who has started this task is gone, and ends it
            self._unsent = b""
            self._wake.set()


@functools.cache
def teller() -> Teller | None:
    """This process's own; None where nobody wants to know."""
    number, _, rest = os.environ.get(PIPE_VARIABLE, "").partition(":")
    known, _, wants = rest.partition(":")
    if not number.isdigit():
        return None
    descriptor = int(number)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISFIFO(found.st_mode) or str(found.st_ino) != known:
            return None
        os.set_inheritable(descriptor, False)
    except OSError:
        return None
    return Teller(descriptor, spans=wants == _SPANS)


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """See `Teller.saving`; nothing where nobody wants to know."""
    own = teller()
    with contextlib.nullcontext() if own is None else own.saving():
        yield


def numbers_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """Those of the logs that are one number each."""
    found = {}
    for name, value in logs.items():
        with contextlib.suppress(TypeError, ValueError):
            found[str(name)] = float(value)
    return found
