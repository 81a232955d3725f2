"""Which failures are mended by starting a task, or the whole job, again.

    parameter-server job    a worker failed        ──► it alone; the others go on meanwhile
                            the chief or a ps did  ──► all tasks, if restarts were asked for
    other jobs              any task failed        ──► all tasks, which resume from a checkpoint

A wrong cluster spec (exit code 64) and tasks that do not come (69) fail the next time, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfdist.errors import ClusterError, RendezvousError, TaskLost
from tfdist.launch.failure import TaskResult

__all__ = ["DEFAULT_RESTARTS", "Restarts", "is_hopeless"]

DEFAULT_RESTARTS = 3
"""How many restarts a parameter-server job has; other jobs have those that they are given."""

_HOPELESS = (ClusterError.exit_code, RendezvousError.exit_code)


def is_hopeless(code: int) -> bool:
    """Whether a task that has ended with this exit code would do so again."""
    return code in _HOPELESS


@dataclass
class Restarts:
    """The restarts of a job.

    Attributes:
        most: How many there are.
        has_servers: Whether it is a parameter-server job.
        asked_for: Whether somebody has given their number, who then has checkpoints: by default
            only lost workers are replaced.
        used: How many there have been.
        chief_is_elsewhere: Whether the chief runs on another host.
    """

    most: int
    has_servers: bool
    asked_for: bool = True
    used: int = 0
    chief_is_elsewhere: bool = False

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ClusterError(f"max_restarts of {self.most}; give 0 or more")

    @classmethod
    def of(cls, most: int | None, has_servers: bool) -> Restarts:
        """The restarts that a job is given, or where that is None, those that it has by default."""
        default = DEFAULT_RESTARTS if has_servers else 0
        return cls(default if most is None else most, has_servers, most is not None)

    @property
    def left(self) -> int:
        """How many there still are."""
        return max(0, self.most - self.used)

    def mends_alone(self, result: TaskResult) -> bool:
        """Whether this task alone is to be started again.

        Args:
            result: How it ended.
        """
        return (
            self.has_servers
            and result.task.type == "worker"
            and result.returncode not in (0, *_HOPELESS)
            # A worker ends with 75 because its chief is lost, whose own end we may see later; a
            # chief on another host may still be there, once the network is.
            and (result.returncode != TaskLost.exit_code or self.chief_is_elsewhere)
            and not result.stopped
            and self.left > 0
        )

    def mends_all(self, first: TaskResult) -> bool:
        """Whether all tasks are to be started again.

        Args:
            first: How the first task that failed has ended.
        """
        return self.asked_for and not is_hopeless(first.returncode) and self.left > 0
