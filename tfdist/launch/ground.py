"""Where the tasks of a job run: on this machine, or on others (`tfdist.launch.hosts`)."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tfdist.cluster import Task
from tfdist.launch.guardian import JOB_VARIABLE, Guardian
from tfdist.launch.network import How, network_for
from tfdist.launch.plan import JobPlan, TaskPlan
from tfdist.launch.running_task import RunningTask
from tfdist.launch.task_process import LocalStarter

__all__ = ["FOLDER_VARIABLE", "Ground", "Starter", "ThisMachine", "Witness", "marked"]

FOLDER_VARIABLE = "TFDIST_LOG_FOLDER"
"""Tells a task where the job's logs lie."""


class Witness(Protocol):
    """Sees which tasks of a job take part in it."""

    def look(self) -> None:
        """Looks, where it is time to; called often."""

    def absent(self) -> tuple[Task, ...]:
        """The tasks that were never seen, of those that should have been."""


class Starter(Protocol):
    """Starts tasks of a job."""

    def start(self, plan: TaskPlan) -> RunningTask:
        """Starts a task; where it ran before, its log goes on."""

    def forget(self, task: RunningTask) -> None:
        """Takes note that nothing of a task is left."""

    def witness(self, plan: JobPlan) -> Witness:
        """Who sees which of the tasks that are started take part."""

    def remains(self) -> Mapping[str, Mapping[int, str]]:
        """What the job has left running: process ids and commands, by the host or "the job"."""


class Ground(Protocol):
    """Where the tasks of a job run."""

    def open(
        self, plan: JobPlan, log_dir: Path, environ: Mapping[str, str], say: Callable[[str], None]
    ) -> AbstractContextManager[Starter]:
        """Makes it ready for tasks, until the end of the block.

        Args:
            plan: What will run.
            log_dir: The folder of the logs.
            environ: The variables that the plans' come on top of.
            say: Shows a line.
        """


@dataclass(frozen=True)
class ThisMachine:
    """The tasks run here, and end with this process.

    Attributes:
        isolate: Whether they have a network of their own; see `network`.
        keeps_logs: Whether the logs lie here; else somebody else keeps them.
    """

    isolate: How = "auto"
    keeps_logs: bool = True

    @contextlib.contextmanager
    def open(
        self, plan: JobPlan, log_dir: Path, environ: Mapping[str, str], say: Callable[[str], None]
    ) -> Iterator[LocalStarter]:
        """See `Ground`."""
        mark, variables = marked(environ, log_dir)
        with Guardian(mark) as guardian, network_for(plan, self.isolate, guardian, say) as insider:
            yield LocalStarter(
                mark, log_dir, variables, guardian, insider, keeps_logs=self.keeps_logs
            )


def marked(environ: Mapping[str, str], log_dir: Path) -> tuple[str, dict[str, str]]:
    """A new mark for a job on this machine, and the variables of its tasks, with it.

    Args:
        environ: What else they have.
        log_dir: The folder of the logs.
    """
    mark = secrets.token_hex(8)
    return mark, {**environ, JOB_VARIABLE: mark, FOLDER_VARIABLE: str(log_dir.resolve())}
