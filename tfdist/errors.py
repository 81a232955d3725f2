"""Every exception that tfdist raises, and the exit code that each one means.

    TfdistError                      anything below; catch this one to catch them all
    ├── ClusterError (ValueError)    the cluster spec is wrong: TF_CONFIG, a file, counts, a task
    │   └── PortInUse                another process has this task's port
    ├── RendezvousError              the tasks of a job did not come together
    │   ├── RendezvousTimeout        somebody was missing at the deadline (also a TimeoutError)
    │   └── RendezvousMismatch       somebody came with another spec, version or name
    ├── StrategyError (ValueError)   no such strategy, or its options do not fit the cluster
    ├── PlugError (ValueError)       this model cannot be trained by its strategy as it stands
    ├── DataError (ValueError)       the data cannot be shared out over the replicas
    ├── CheckpointError              a checkpoint cannot be written, found or restored
    ├── Preempted                    somebody has asked for the job's end: its state is saved
    ├── TaskLost                     another task of the job went away while this one was working
    │   └── TaskLeft                 it ended well, but this one still waited for it
    └── LaunchError                  a process of the job could not be started or did not end well
        └── DeadlinePassed           tfdist.run's timeout has passed (also a TimeoutError)

Each message says what was given, what is allowed and what to do. `exit_code` is what a process that
ends by the error exits with, so that a scheduler can tell a wrong spec (do not retry) from a lost
machine (retry): see `EXIT_CODES`.
"""

from __future__ import annotations

__all__ = [
    "EXIT_CODES",
    "INTERNAL_FAULT",
    "CheckpointError",
    "ClusterError",
    "DataError",
    "DeadlinePassed",
    "LaunchError",
    "PlugError",
    "PortInUse",
    "Preempted",
    "RendezvousError",
    "RendezvousMismatch",
    "RendezvousTimeout",
    "StrategyError",
    "TaskLeft",
    "TaskLost",
    "TfdistError",
]


class TfdistError(Exception):
    """Base class of all errors that tfdist raises on purpose."""

    exit_code: int = 1


class ClusterError(TfdistError, ValueError):
    """The cluster spec (TF_CONFIG, a file, counts or a task's name) is wrong."""

    exit_code = 64


class PortInUse(ClusterError):
    """Another process has the port at which this task is to listen."""


class RendezvousError(TfdistError):
    """The tasks of the job did not come together."""

    exit_code = 69


class RendezvousTimeout(RendezvousError, TimeoutError):
    """Somebody was missing when the deadline passed."""

    exit_code = 69


class RendezvousMismatch(RendezvousError):
    """Somebody came with another cluster spec, other versions or somebody else's name."""

    exit_code = 64


class StrategyError(TfdistError, ValueError):
    """There is no such strategy, or its options do not fit the cluster."""

    exit_code = 64


class PlugError(TfdistError, ValueError):
    """The model cannot be trained by its strategy as it stands."""


class DataError(TfdistError, ValueError):
    """The data cannot be shared out over the replicas."""


class CheckpointError(TfdistError):
    """A checkpoint cannot be written, found or restored."""


class Preempted(TfdistError):
    """A signal has asked for the job's end; its state is saved, and it can be started again."""

    exit_code = 75
    told = True


class TaskLost(TfdistError):
    """Another task of the job went away while this one was working.

    Attributes:
        told: Whether that task has said why, so that the frames of this one tell nothing.
    """

    exit_code = 75
    told = False


class TaskLeft(TaskLost):
    """Another task of the job ended well, but this one still waited for it; do not try again."""

    exit_code = 1


class LaunchError(TfdistError):
    """A process of the job could not be started or did not end well."""


class DeadlinePassed(LaunchError, TimeoutError):
    """A function that `tfdist.run` has called has not returned in time; its job was ended."""


INTERNAL_FAULT = 70
"""What the command exits with after an exception that nobody expected (sysexits' EX_SOFTWARE)."""

EXIT_CODES: dict[int, str] = {
    0: "every task ended well",
    1: "a task failed: its traceback is in its log",
    64: "the command line, the cluster spec or the strategy's options are wrong: mend them first",
    69: "the tasks did not come together before the deadline",
    INTERNAL_FAULT: "a fault of tfdist itself: `--debug` shows where",
    75: "a task was lost, or a signal has asked for the end: start the job again, it resumes from "
    "its checkpoint",
    130: "ended by Ctrl-C (SIGINT)",
    143: "ended by SIGTERM",
}
"""What the exit codes of `tfdist run` mean; 128 + n is a task ended by signal n."""
