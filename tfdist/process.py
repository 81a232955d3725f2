"""Who this process is: which task of which job, told once and asked here by everybody else.

`tfdist.strategy` notes what it was made for, whether the cluster came from its caller, from
TF_CONFIG or from a launcher; from then on that is who the process is, whatever its environment
says. Before, and in a process without a strategy, the environment tells.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tfdist import log
from tfdist.cluster import Cluster, Task
from tfdist.cluster.secret import Secret
from tfdist.environments import LAUNCHED_VARIABLE, detect_cluster
from tfdist.errors import ClusterError, StrategyError
from tfdist.given_numbers import is_wait
from tfdist.machine.capacities import available_cores

__all__ = [
    "ASKED_SUFFIX",
    "COORDINATOR_VARIABLE",
    "GPUS_ASKED_VARIABLE",
    "GPU_MEMORY_VARIABLE",
    "SAVES_VARIABLE",
    "SECRET_VARIABLE",
    "SECURE_VARIABLE",
    "WRITES_SUFFIX",
    "Process",
    "coordinator_port",
    "current",
    "gpu_memory",
    "gpus_asked",
    "is_asked_to_save",
    "is_chief",
    "is_secure",
    "join",
    "log_folder",
    "names_come_late",
    "rendezvous_timeout",
    "saves_when_asked",
    "secret",
    "stall_timeout",
    "threads",
    "writes",
]

SECRET_VARIABLE = "TFDIST_SECRET"
"""The job's secret, as the launcher hands it to its tasks; the name of its file ends in _FILE."""
SECURE_VARIABLE = "TFDIST_SECURE"
"""Tells a task that it reaches others at their addresses in the cluster, and nowhere else."""

COORDINATOR_VARIABLE = "TFDIST_COORDINATOR_PORT"
"""Tells a chief at which port TensorFlow's own server is to listen, where not just any will do."""

SAVES_VARIABLE = "TFDIST_SAVES"
"""Names the file that is there while a signal would have this task save and end."""

ASKED_SUFFIX = ".asked"
"""At the end of the name of the file by which the launcher asks this task to save and end."""

WRITES_SUFFIX = ".writes"
"""At the end of the name of the file that is there while this task writes a checkpoint."""

GPUS_ASKED_VARIABLE = "TFDIST_GPUS_PER_TASK"
"""How many GPUs somebody has asked for by name, without which this task is not to train."""
GPU_MEMORY_VARIABLE = "TFDIST_GPU_MEMORY"
"""MiB of each of its GPUs that this task may take."""

_RENDEZVOUS_TIMEOUT = 120.0
_STALL_TIMEOUT = 60.0


@dataclass(frozen=True)
class Process:
    """One process.

    Attributes:
        cluster: its job, with the task that it is; None where it is alone.
        launched: whether `tfdist run` has started it, which shows the output of all tasks together.
    """

    cluster: Cluster | None = None
    launched: bool = False

    @property
    def task(self) -> Task | None:
        """Which task it is; None where it is alone."""
        return None if self.cluster is None else self.cluster.task

    @property
    def is_chief(self) -> bool:
        """Whether it is alone, or the chief of its job (worker:0 where there is no chief)."""
        return self.cluster is None or self.cluster.is_chief

    @property
    def is_evaluator(self) -> bool:
        """Whether it is its job's evaluator, which scores checkpoints and does not train."""
        return self.task is not None and self.task.type == "evaluator"


_joined: Process | None = None


def join(cluster: Cluster | None) -> Process:
    """Notes what this process is, for everybody who asks from now on, and names it in the log.

    Args:
        cluster: its job, with its task; None where it is alone.
    """
    global _joined
    _joined = Process(cluster, _launched())
    alone_in_its_log = _joined.task is not None and not _joined.launched
    log.set_task(str(_joined.task) if alone_in_its_log else "")  # the launcher names it itself
    return _joined


def current() -> Process:
    """Returns who this process is.

    Raises:
        ClusterError: no strategy has been made, and what the environment says is wrong.
    """
    return _joined or Process(detect_cluster(), _launched())


def is_chief() -> bool:
    """Tells whether this process is the one of its job that should print and write files.

    Returns:
        Whether it is alone, or the chief of its job (worker:0 where there is no chief).

    Raises:
        ClusterError: no strategy has been made, and what the environment says is wrong.

    Example:
        >>> if tfdist.is_chief():
        ...     model.summary()
    """
    return current().is_chief


def rendezvous_timeout() -> float:
    """Returns the seconds that tasks wait for each other, where the program does not say.

    Returns:
        What TFDIST_RENDEZVOUS_TIMEOUT says; 120 without it.

    Raises:
        StrategyError: it says no number above 0.
    """
    return _seconds("TFDIST_RENDEZVOUS_TIMEOUT", _RENDEZVOUS_TIMEOUT)


def stall_timeout(environ: Mapping[str, str] | None = None) -> float:
    """Returns the seconds after which a task that waits for one that is lost ends.

    Args:
        environ: the variables; those of this process by default.

    Returns:
        What TFDIST_STALL_TIMEOUT says; 60 without it.

    Raises:
        StrategyError: it says no number above 0.
    """
    return _seconds("TFDIST_STALL_TIMEOUT", _STALL_TIMEOUT, environ)


def coordinator_port() -> int | None:
    """Returns the port of TensorFlow's server on a chief, as the launcher tells it; None for any.

    At the chief's own port listens the rendezvous, for the whole job.
    """
    text = os.environ.get(COORDINATOR_VARIABLE, "")
    return int(text) if text.isdigit() else None


def is_secure() -> bool:
    """Returns whether this task reaches others by tunnels of its launcher alone."""
    return bool(os.environ.get(SECURE_VARIABLE))


def threads() -> int:
    """Returns the threads that TensorFlow gives one operation, where the program does not say.

    Returns:
        What TF_NUM_INTRAOP_THREADS says; without it the cores that this process may use.
    """
    text = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return int(text) if text.isdigit() and int(text) else available_cores()


def gpus_asked() -> int:
    """Returns how many GPUs this task must have, as TFDIST_GPUS_PER_TASK says; 0 without it.

    Raises:
        StrategyError: it says no whole number.
    """
    return _whole(GPUS_ASKED_VARIABLE) or 0


def gpu_memory() -> int | None:
    """Returns the MiB that this task may take of each of its GPUs, as TFDIST_GPU_MEMORY says.

    Returns:
        None where nothing limits it.

    Raises:
        StrategyError: it says no whole number above 0.
    """
    memory = _whole(GPU_MEMORY_VARIABLE)
    if memory == 0:
        raise StrategyError(f"{GPU_MEMORY_VARIABLE}='0': give MiB above 0, or unset it")
    return memory


def secret(environ: Mapping[str, str] | None = None) -> Secret:
    """Returns the job's secret, which its tasks prove to each other to know.

    Args:
        environ: the variables; those of this process by default.

    Returns:
        What TFDIST_SECRET says, or the file that TFDIST_SECRET_FILE names; without them, none.

    Raises:
        ClusterError: both are set, the secret is too short, or others can read the file.
    """
    environ = os.environ if environ is None else environ
    file = environ.get(f"{SECRET_VARIABLE}_FILE", "")
    word = environ.get(SECRET_VARIABLE, "").strip()
    if file and word:
        raise ClusterError(f"{SECRET_VARIABLE} and {SECRET_VARIABLE}_FILE are both set; unset one")
    return Secret.from_file(file) if file else Secret(word)


def names_come_late() -> bool:
    """Tells whether the hosts of other tasks may get their names only when they start.

    Returns:
        Whether this is a pod of Kubernetes, whose kubelet sets KUBERNETES_SERVICE_HOST.
    """
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def log_folder() -> Path:
    """Returns where this process may leave files for people who look into a job.

    Returns:
        The folder of the job's logs, which `tfdist run` tells by TFDIST_LOG_FOLDER;
        "tfdist_logs" in the working directory where tasks are started by hand.
    """
    return Path(os.environ.get("TFDIST_LOG_FOLDER") or "tfdist_logs")


@contextlib.contextmanager
def saves_when_asked() -> Iterator[None]:
    """Shows the launcher, until the end of the block, that SIGTERM has this task save first."""
    with _shown(""):
        yield


def is_asked_to_save() -> bool:
    """Whether the launcher wants the job saved and begun anew, with other tasks.

    No signal says so: one that comes a moment after a training would end what follows it.
    """
    path = os.environ.get(SAVES_VARIABLE)
    return bool(path) and os.path.exists(f"{path}{ASKED_SUFFIX}")


@contextlib.contextmanager
def writes() -> Iterator[None]:
    """Shows the launcher, until the end of the block, that a checkpoint is being written here."""
    with _shown(WRITES_SUFFIX):
        yield


@contextlib.contextmanager
def _shown(suffix: str) -> Iterator[None]:
    path = os.environ.get(SAVES_VARIABLE)
    if not path:
        yield
        return
    with contextlib.suppress(OSError):  # then it is only not known
        Path(path + suffix).touch()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path(path + suffix).unlink()


def _seconds(name: str, default: float, environ: Mapping[str, str] | None = None) -> float:
    text = (os.environ if environ is None else environ).get(name, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not is_wait(seconds):
        raise StrategyError(f"{name}={text!r}: give seconds above 0 and below 1e9")
    return seconds


def _whole(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if text and not text.isdecimal():
        raise StrategyError(f"{name}={text!r}: give a whole number, or unset it")
    return int(text) if text else None


def _launched() -> bool:
    return bool(os.environ.get(LAUNCHED_VARIABLE))
