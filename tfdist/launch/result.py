"""How a job ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfdist.cluster import Task
from tfdist.errors import LaunchError
from tfdist.launch.failure import Failure, TaskResult, describe

__all__ = ["JobResult"]


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        tasks: How each task of this machine ended, in the cluster's order.
        returncode: What `tfdist run` exits with: 0, the first failing task's exit code (128 + n
            where signal n ended it), or 128 + n where the launcher itself was sent signal n.
        log_dir: The folder of the logs, "worker-1.log" for worker:1.
        failure: The first failure; None where there is none or where the launcher was told to end.
        restarts: How many times a worker, or the whole job, was started again.
        alone: The tasks that ended well and never took part in a job of several: no strategy was
            made, and each ran the whole script by itself.
    """

    tasks: tuple[TaskResult, ...]
    returncode: int
    log_dir: Path
    failure: Failure | None = None
    restarts: int = 0
    alone: tuple[Task, ...] = ()

    def check(self) -> JobResult:
        """Returns this result if the job ended well.

        Raises:
            LaunchError: It did not; the message names the first failure and the end of its log.
        """
        if self.returncode == 0:
            return self
        if self.failure is None:
            raise LaunchError(f"the job was ended (exit code {self.returncode})")
        lines = (
            f"{self.failure.result.name} {describe(self.failure.result)}:",
            *self.failure.excerpt,
        )
        raise LaunchError("\n  ".join(lines))
