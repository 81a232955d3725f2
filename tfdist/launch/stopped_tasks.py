"""Tasks that are stopped (SIGSTOP): the launcher sees it, where the others can only wait.

Before the tasks have met nobody else knows it, least of all of the chief, whom all of them look for
until their deadline. So it is named after a few seconds, and after the stall timeout the task is
ended, as one that the job has lost. Linux only; elsewhere nothing is seen.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping

from tfdist import process
from tfdist.cluster import Task
from tfdist.launch.plan import JobPlan
from tfdist.launch.running_task import RunningTask
from tfdist.machine.standstill import Standstill

__all__ = ["StoppedTasks"]

_LOOK_SECONDS = 0.5
_QUIET_SECONDS = 6.0
_NAMED_SECONDS = 2.0  # from naming one to ending it, however short the stall timeout is


class StoppedTasks:
    """Looks now and then which of a job's tasks are stopped."""

    def __init__(self, plan: JobPlan, environ: Mapping[str, str]) -> None:
        """Begins to look, in a job in which several tasks work together.

        Args:
            plan: The job's.
            environ: The variables that the plan's come on top of.
        """
        together = plan.cluster.tasks_that_meet
        self._plan = plan
        self._together = together if len(together) > 1 else ()
        limit = process.stall_timeout(plan.tasks[0].environ(environ)) if self._together else 0.0
        self._limit = max(limit, _QUIET_SECONDS + _NAMED_SECONDS)
        self._since: dict[str, float] = {}
        self._told: set[str] = set()
        self._standstill = Standstill()
        self._due = 0.0

    def look(
        self,
        processes: Iterable[RunningTask],
        is_needed: Callable[[Task], bool],
        say: Callable[[str], None],
    ) -> None:
        """Looks, where it is time to; ends who has been stopped for too long.

        Args:
            processes: The tasks of this launcher.
            is_needed: Whether the job cannot go on without a task that is stopped.
            say: Shows a line.
        """
        now = time.monotonic()
        if not self._together or now < self._due:
            return
        self._due = now + _LOOK_SECONDS
        if self._standstill.is_over():  # everybody may have been stopped, we too
            self._since.clear()
        for one in processes:
            if not one.running or one.task not in self._together or not one.is_stopped:
                self._since.pop(one.name, None)
                self._told.discard(one.name)
                continue
            seconds = now - self._since.setdefault(one.name, now)
            if seconds >= _QUIET_SECONDS and one.name not in self._told:
                self._told.add(one.name)
                there = f" on {one.host}" if one.host else ""
                end = f"after {self._limit:g} s it is ended" if is_needed(one.task) else ""
                say(
                    f"{one.name} is stopped (SIGSTOP) for {seconds:.0f} s: the others wait for it; "
                    f"kill -CONT {one.pid}{there} lets it go on{'; ' if end else ''}{end}"
                )
            if seconds >= self._limit and is_needed(one.task):
                one.stopped_for = seconds
                one.send(signal.SIGKILL)
