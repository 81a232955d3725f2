"""Takes in what the tasks of a job tell, and hands on what there is to see."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tfdist.launch.failure import TaskResult, describe
from tfdist.launch.output import Foot
from tfdist.launch.plan import JobPlan
from tfdist.progress import JobProgress, JobView, Record, RecordReader
from tfdist.progress.teller import WISH_VARIABLE

__all__ = ["LiveView", "Watcher"]

_SECONDS = 0.25  # between two looks


class Watcher:
    """What wants to know of a job; each does what it needs of this."""

    wants_spans = False
    """Whether tasks are to tell each phase as it ends."""

    def open(self, say: Callable[[str], None]) -> None:
        """The job begins.

        Args:
            say: shows a line of the launcher's.
        """

    def began(self, task: str, again: bool) -> None:
        """A task was started."""

    def heard(self, task: str, records: Sequence[Record], offset: float) -> None:
        """A task has told something; `offset` brings its times to this machine's clock."""

    def ended(self, task: str, result: TaskResult) -> None:
        """A task has ended."""

    def look(self, view: JobView, now: float) -> None:
        """Called a few times a second."""

    def close(self, view: JobView, now: float) -> None:
        """The job has ended."""


class LiveView:
    """What a job's launcher knows of its progress.

    Args:
        watchers: who wants to know.
        foot: what stands below the lines of a terminal; None for nothing.
        now: seconds of `time.monotonic`.

    Attributes:
        progress: what is known.
    """

    def __init__(
        self,
        watchers: Sequence[Watcher] = (),
        foot: Foot | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watchers = list(watchers)
        self.foot = foot
        self._now = now
        self.progress = JobProgress(())
        self._readers: dict[str, RecordReader] = {}
        self._say: Callable[[str], None] = lambda _: None
        self._looked = 0.0

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables of tasks, by which they know what to tell."""
        kept = {name: value for name, value in environ.items() if name != WISH_VARIABLE}
        wish = "spans" if any(one.wants_spans for one in self._watchers) else "records"
        return {**kept, WISH_VARIABLE: wish} if self._watchers else kept

    @contextlib.contextmanager
    def opened(self, say: Callable[[str], None]) -> Iterator[None]:
        """From the beginning of a job to its end.

        Args:
            say: shows a line of the launcher's.

        Raises:
            LaunchError: something cannot be opened.
        """
        self._say = say
        try:
            for one in self._watchers:
                one.open(say)
            yield
        finally:
            now = self._now()
            view = self.progress.view(now)
            self._each(lambda one: one.close(view, now))

    def plan(self, plan: JobPlan) -> None:
        """These tasks are about to be started."""
        self.progress = JobProgress([str(one.task) for one in plan.tasks], str(plan.cluster.chief))

    def began(self, task: str) -> None:
        """A task was started, perhaps again."""
        again = task in self._readers
        self._readers[task] = RecordReader()
        self.progress.began(task)
        self._each(lambda one: one.began(task, again))

    def hear(self, task: str, data: bytes, *, here: bool) -> None:
        """Takes in what a task has told of its progress.

        Args:
            task: its name.
            data: the bytes that have come.
            here: whether it runs on this machine.
        """
        records = self._readers[task].feed(data) if data else []
        if not records:
            return
        self.progress.hear(task, records, self._now(), here=here)
        self._each(lambda one: one.heard(task, records, self.progress.offset(task)))

    def ended(self, task: str, result: TaskResult) -> None:
        """A task has ended."""
        failed = result.returncode != 0 and not result.stopped
        self.progress.ended(task, failed, describe(result, explained=False) if failed else "")
        self._each(lambda one: one.ended(task, result))
        if failed:  # the job may end before the next look
            self._looked = 0.0
            self.look()

    def look(self) -> None:
        """Called often."""
        now = self._now()
        if self._watchers and now >= self._looked + _SECONDS:
            self._looked = now
            view = self.progress.view(now)
            self._each(lambda one: one.look(view, now))

    def _each(self, act: Callable[[Watcher], None]) -> None:
        """Has every watcher act; one that cannot is left out: it must not end what it watches."""
        for one in list(self._watchers):
            try:
                act(one)
            except Exception as error:
                self._watchers.remove(one)
                self._say(f"{type(one).__name__} shows nothing more: {error!r}")
