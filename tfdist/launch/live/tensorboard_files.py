"""What TensorBoard shows of a job: event files, written by the launcher, without TensorFlow.

DIR/job             the metrics, the speed
DIR/worker-0, ...   what differs from task to task: the shares of its time
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from tfdist.errors import LaunchError
from tfdist.launch.live.live_view import Watcher
from tfdist.progress import JobView, Phase

__all__ = ["TensorBoardFiles"]

_SECONDS = 2.0  # between two points


class TensorBoardFiles(Watcher):
    """Writes scalars over the steps of the job.

    Args:
        folder: TensorBoard's --logdir.
        has_chief: whether the job's own numbers are to be written here, too: of the launchers of a
            job, the one of its chief does.
    """

    def __init__(self, folder: Path, has_chief: bool = True) -> None:
        self._folder = folder
        self._has_chief = has_chief
        self._runs: dict[str, RecordWriter] = {}
        self._told: tuple[int, int, str] | None = None
        self._validated = ""
        self._shares: dict[str, tuple[int, Mapping[Phase, float]]] = {}
        self._next = 0.0
        self._is_over = False

    def open(self, say: Callable[[str], None]) -> None:
        """See `Watcher`.

        Raises:
            LaunchError: the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LaunchError(
                f"the folder {self._folder} cannot be made ({(error.strerror or '').lower()}); "
                "give another one with --tensorboard"
            ) from None

    def look(self, view: JobView, now: float) -> None:
        """See `Watcher`."""
        if view.record is None:
            return
        for task in view.tasks:
            if task.shares and task.record is not None:
                self._shares[task.name] = (task.record.fit, task.shares)
        if now >= self._next or not view.record.phase:  # the end of a `fit` is its last point
            self._next = now + _SECONDS
            self._write(view)

    def close(self, view: JobView, now: float) -> None:
        """Writes the last point, and closes the files; see `Watcher`."""
        self._write(view)
        for writer in self._runs.values():
            writer.close()
        self._runs.clear()

    def _write(self, view: JobView) -> None:
        record = view.record
        if record is None:
            return
        validated = str(record.validation)  # NaN is like NaN there
        if self._told == (record.fit, view.done, validated):
            return
        self._told = (record.fit, view.done, validated)
        # A validation stays what it is until the next: one point for each.
        validation = record.validation if validated != self._validated else {}
        self._validated = validated
        if self._has_chief:
            rates = {
                "steps_per_second": view.steps_per_second,
                "examples_per_second": view.examples_per_second,
            }
            known = {name: rate for name, rate in rates.items() if rate is not None}
            self._scalars("job", view.done, {**record.logs, **validation, **known})
        for task in view.tasks:
            # Outside of `fit` a task has none: at its end they are those of its last seconds.
            fit, last = self._shares.get(task.name, (0, {}))
            if task.record is not None and task.record.fit == fit:
                shares = {f"phase/{name}": share for name, share in last.items()}
                self._scalars(task.name.replace(":", "-"), view.done, shares)

    def _scalars(self, run: str, step: int, values: Mapping[str, float]) -> None:
        if not values or self._is_over:
            return
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        try:
            self._run(run).write(
                Event(
                    wall_time=time.time(), step=step, summary=Summary(value=scalars)
                ).SerializeToString()
            )
            self._runs[run].flush()
        except OSError:  # a disk that is full ends the files, not the job
            self._is_over = True

    def _run(self, run: str) -> RecordWriter:
        if run not in self._runs:
            folder = self._folder / run
            folder.mkdir(parents=True, exist_ok=True)
            now = time.time()
            name = f"events.out.tfevents.{now:.0f}.{socket.gethostname()}.{os.getpid()}"
            self._runs[run] = RecordWriter((folder / name).open("ab"))
            self._runs[run].write(
                Event(wall_time=now, file_version="brain.Event:2").SerializeToString()
            )
        return self._runs[run]
