"""A timeline of all tasks in one file, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

Source: "Trace Event Format", the JSON array format, in which the closing bracket may be missing: so
the file can be read whatever becomes of the launcher. Perfetto's page "Visualizing external trace
formats" says what of it is shown.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from tfdist.errors import LaunchError
from tfdist.launch.failure import TaskResult, describe
from tfdist.launch.live.live_view import Watcher
from tfdist.progress import JobView, Record

__all__ = ["NAME", "TraceFile"]

NAME = "timeline{}.trace.json"

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
        self._meta("process_name", 0, 0, {"name": "the job"})
        say(f"timeline of all tasks: {self._path}")

    def began(self, task: str, again: bool) -> None:
        """See `Watcher`."""
        self._last.pop(task, None)
        if task in self._pids:
            return
        pid = self._pids[task] = len(self._pids) + 1
        self._meta("process_name", pid, 0, {"name": task})
        self._meta("process_sort_index", pid, 0, {"sort_index": pid})
        self._meta("thread_name", pid, _FIT, {"name": "fit"})
        self._meta("thread_name", pid, _BESIDE, {"name": "checkpoints"})

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
        # What it did since its last word is not known, but by then it had told half a second.
        self._write(
            name=describe(result, explained=False),
            ph="i",
            s="p",
            ts=_micros(self._latest),
            pid=self._pids[task],
            tid=_FIT,
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
            name="the job has ended", ph="i", s="g", ts=_micros(now), pid=0, tid=0, last=True
        )
        with self._or_end() as file:
            file.write("]\n")
        self._end()

    def _phases(self, task: str, record: Record, offset: float) -> None:
        for span in record.spans:
            self._write(
                name=span.phase,
                cat="phase",
                ph="X",
                ts=_micros(span.began + offset),
                dur=_micros(span.seconds),
                pid=self._pids[task],
                tid=_FIT,
                args={"epoch": record.epoch + 1, "step": span.step},
            )

    def _shares(self, task: str, record: Record, offset: float) -> None:
        last = self._last.get(task)
        if last is None or last.fit != record.fit or not record.phase:
            return
        shares = record.seconds.since(last.seconds).shares()
        self._write(
            name="shares",
            ph="C",
            ts=_micros(record.at + offset),
            pid=self._pids[task],
            args={name: round(share, 4) for name, share in shares.items()},
        )

    def _checkpoint(self, task: str, at: float, saving: bool) -> None:
        if saving:
            self._saving.setdefault(task, at)
        elif task in self._saving:
            began = self._saving.pop(task)
            self._write(
                name="writes a checkpoint",
                cat="checkpoint",
                ph="X",
                ts=_micros(began),
                dur=_micros(at - began),
                pid=self._pids[task],
                tid=_BESIDE,
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


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)
