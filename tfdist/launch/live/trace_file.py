"""A timeline of all tasks in one file, which Perfetto (ui.perfetto.dev) opens.

Source: "Trace Event Format", the JSON array format, in which the closing bracket may be missing: so
the file can be read whatever becomes of the launcher. Perfetto's page "Visualizing external trace
formats" says what of it is shown.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tfdist.errors import LaunchError
from tfdist.launch.failure import TaskResult, describe
from tfdist.launch.live.live_view import Watcher
from tfdist.progress import JobView, Record

__all__ = ["NAME", "TraceFile"]

NAME = "timeline{}.trace.json"

_JOB = 1  # what the format calls a process; tasks are 2, 3, ...
_FIT, _BESIDE = 1, 2  # rows of a task


class TraceFile(Watcher):
    """Writes what tasks do, and when, by the clock of the launcher's machine.

    A row for each task: its phases one after the other, and beneath them the checkpoints that are
    written beside the training. What steps of one graph wait for cannot be seen one by one: the
    track "shares" has how their time was shared out.

    Args:
        folder: where the file goes; made where it is missing.
        task: which launcher writes it, by its first task, where a job has several; "" else.
    """

    wants_spans = True

    def __init__(self, folder: Path, task: str = "") -> None:
        self._path = folder / NAME.format(f".{task.replace(':', '-')}" if task else "")
        self._file: TextIO | None = None
        self._pids: dict[str, int] = {}
        self._last: dict[str, Record] = {}
        self._saving: dict[str, float] = {}
        self._shown: dict[str, tuple[float, Mapping[Any, float]]] = {}  # of a fit that goes on
        self._until: dict[tuple[str, int], int] = {}  # where the last span of a row ends
        self._latest = 0.0

    def open(self, say: Callable[[str], None]) -> None:
        """See `Watcher`.

        Raises:
            LaunchError: the file cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
        except OSError as error:
            raise LaunchError(
                f"the timeline {self._path} cannot be written ({(error.strerror or '').lower()}); "
                "give another folder with --tensorboard"
            ) from None
        self._file.write("[\n")
        self._meta("process_name", _JOB, 0, {"name": "the job"})
        say(f"timeline of all tasks: {self._path}")

    def began(self, task: str, again: bool) -> None:
        """See `Watcher`."""
        self._last.pop(task, None)
        if task in self._pids:
            return
        pid = self._pids[task] = _JOB + len(self._pids) + 1
        self._meta("process_name", pid, 0, {"name": task})
        self._meta("process_sort_index", pid, 0, {"sort_index": pid})
        self._meta("thread_name", pid, _row(pid, _FIT), {"name": "fit"})
        self._meta("thread_name", pid, _row(pid, _BESIDE), {"name": "checkpoints"})

    def heard(self, task: str, records: Sequence[Record], offset: float) -> None:
        """See `Watcher`."""
        for record in records:
            self._phases(task, record, offset)
            self._shares(task, record, offset)
            self._checkpoint(task, record.at + offset, record.saving)
            self._last[task] = record

    def ended(self, task: str, result: TaskResult) -> None:
        """See `Watcher`."""
        last = self._last.get(task)
        if last is None:
            return
        self._no_shares(task, self._until.get((task, _FIT), 0) / 1e6)
        self._checkpoint(task, self._latest, False)
        # What it did since its last word is not known, but by then it had told half a second.
        self._write(
            name=describe(result, explained=False),
            ph="i",
            s="p",
            ts=_micros(self._latest),
            pid=self._pids[task],
            tid=_row(self._pids[task], _FIT),
        )

    def look(self, view: JobView, now: float) -> None:
        """See `Watcher`."""
        self._latest = now
        with self._or_end() as file:
            file.flush()

    def close(self, view: JobView, now: float) -> None:
        """See `Watcher`."""
        if self._file is None:
            return
        for task in list(self._saving):
            self._checkpoint(task, now, False)
        self._write(
            name="the job has ended", ph="i", s="p", ts=_micros(now), pid=_JOB, tid=0, last=True
        )
        with self._or_end() as file:
            file.write("]\n")
        self._end()

    def _phases(self, task: str, record: Record, offset: float) -> None:
        for span in record.spans:
            began = span.began + offset
            at = {"epoch": record.epoch + 1, "step": span.step}
            self._span(task, _FIT, span.phase, "phase", began, began + span.seconds, args=at)

    def _shares(self, task: str, record: Record, offset: float) -> None:
        last = self._last.get(task)
        if last is None or last.fit != record.fit or not record.phase:
            self._no_shares(task, record.at + offset)
            return
        shares = record.seconds.since(last.seconds).shares()
        self._count(task, record.at + offset, shares)

    def _no_shares(self, task: str, at: float) -> None:
        """Has the tracks end where a fit has: else its last shares would seem to go on."""
        if shown := self._shown.pop(task, None):
            last, shares = shown
            self._count(task, max(at, last), dict.fromkeys(shares, 0.0))
            del self._shown[task]

    def _count(self, task: str, at: float, shares: Mapping[Any, float]) -> None:
        self._shown[task] = at, shares
        self._write(
            name="shares",
            ph="C",
            ts=_micros(at),
            pid=self._pids[task],
            args={name: round(share, 4) for name, share in shares.items()},
        )

    def _checkpoint(self, task: str, at: float, saving: bool) -> None:
        if saving:
            self._saving.setdefault(task, at)
        elif task in self._saving:
            began = self._saving.pop(task)
            self._span(task, _BESIDE, "writes a checkpoint", "checkpoint", began, at)

    def _span(
        self, task: str, row: int, name: str, kind: str, began: float, ended: float, **more: Any
    ) -> None:
        """A span of a row, which begins no earlier than the last one has ended.

        Spans that overlap by a microsecond, as both ends are rounded, are dropped by Perfetto.
        """
        start = max(_micros(began), self._until.get((task, row), 0))
        self._until[task, row] = end = max(_micros(ended), start)
        pid = self._pids[task]
        self._write(
            name=name,
            cat=kind,
            ph="X",
            ts=start,
            dur=end - start,
            pid=pid,
            tid=_row(pid, row),
            **more,
        )

    def _meta(self, name: str, pid: int, tid: int, args: dict[str, Any]) -> None:
        self._write(name=name, ph="M", pid=pid, tid=tid, args=args)

    def _write(self, last: bool = False, **event: Any) -> None:
        with self._or_end() as file:
            file.write(json.dumps(event) + ("\n" if last else ",\n"))

    @contextlib.contextmanager
    def _or_end(self) -> Iterator[TextIO]:
        """The file, or nowhere: a disk that is full ends the timeline, not the job."""
        try:
            yield self._file or io.StringIO()
        except OSError:
            self._end()

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def _row(pid: int, row: int) -> int:
    """The number of a task's row: what Perfetto calls a thread, which no two processes share."""
    return 1000 * pid + row


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)
