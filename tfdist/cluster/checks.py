"""What makes a cluster right: everything that can be told from its text alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tfdist.cluster.address import Address
from tfdist.cluster.task import JOBS, Task, canonical_job
from tfdist.errors import ClusterError

__all__ = ["KINDS", "check_kind", "check_task", "checked_jobs"]

MODEL_PARALLEL: tuple[str, ...] = ("pipeline", "tensor_parallel")
"""The kinds of which a chief feeds workers that hold one model together."""

KINDS: tuple[str, ...] = (
    "auto",
    "one_device",
    "mirrored",
    "multi_worker_mirrored",
    "parameter_server",
    *MODEL_PARALLEL,
)
"""The kinds of strategy that a cluster can be checked against."""

_SINGLE = ("chief", "evaluator")


def checked_jobs(given: object) -> Mapping[str, tuple[str, ...]]:
    """Checks the jobs of a cluster and brings them into their one form.

    Args:
        given: Job names and lists of addresses, from wherever they came.

    Returns:
        A read-only mapping in the order of `JOBS`, from a job to its addresses.

    Raises:
        ClusterError: A job is unknown, empty or given twice, or an address is wrong.
    """
    if not isinstance(given, Mapping):
        raise ClusterError(
            f"cluster {given!r} that is no object; map each job to its list of addresses, "
            'as in {"worker": ["10.0.0.2:2222"]}'
        )
    found: dict[str, tuple[str, ...]] = {}
    for name, addresses in given.items():
        job = canonical_job(name)
        if job in found:
            raise ClusterError("both chief and master in the cluster; take one of them out")
        found[job] = _checked_addresses(str(name), addresses)
    if not found:
        raise ClusterError(
            "empty cluster; map each job to its list of addresses, or unset the cluster spec "
            "to train on this machine alone"
        )
    _refuse_duplicates(found)
    return MappingProxyType({job: found[job] for job in JOBS if job in found})


def _checked_addresses(job: str, addresses: object) -> tuple[str, ...]:
    if isinstance(addresses, str):
        each = ", ".join(f'"{one.strip()}"' for one in addresses.split(","))
        raise ClusterError(
            f"string {addresses!r} for the job {job}; write a list of addresses: [{each}]"
        )
    if isinstance(addresses, Mapping):
        raise ClusterError(
            f"sparse cluster: the job {job} maps indices to addresses; list the addresses of "
            "all its tasks in the order of their indices"
        )
    if not isinstance(addresses, (list, tuple)):
        raise ClusterError(
            f"{addresses!r} for the job {job}; write a list of addresses, one for each task"
        )
    if not addresses:
        raise ClusterError(
            f"empty list for the job {job}; give the address of each of its tasks, or leave "
            "the job out"
        )
    if len(addresses) > 1 and canonical_job(job) in _SINGLE:
        raise ClusterError(
            f"{len(addresses)} tasks in the job {job}; a cluster has one {job} at most: make "
            "the others workers"
        )
    for index, address in enumerate(addresses):
        try:
            Address.parse(address)
        except ClusterError as error:
            raise ClusterError(f"{job}:{index}: {error}") from None
    return tuple(addresses)


def _refuse_duplicates(jobs: Mapping[str, tuple[str, ...]]) -> None:
    seen: dict[tuple[str, int], tuple[str, str]] = {}
    for job, addresses in jobs.items():
        for index, text in enumerate(addresses):
            name = f"{job}:{index}"
            first, given = seen.setdefault(Address.parse(text).canonical, (name, text))
            if first != name:
                same = text if text == given else f"{given} and {text}, which are one place"
                raise ClusterError(
                    f"duplicate address: {first} and {name} are both at {same}; "
                    "give every task its own host or port"
                )


def check_task(task: Task, jobs: Mapping[str, tuple[str, ...]]) -> None:
    """Checks that a task belongs to a cluster.

    Args:
        task: The task that a process is to be.
        jobs: The cluster's checked jobs.

    Raises:
        ClusterError: The cluster has no such task.
    """
    if task.type not in jobs:
        # An evaluator works beside the cluster: TF_CONFIG commonly leaves it out of the spec.
        if task.type == "evaluator" and task.index == 0:
            return
        if task.type == "evaluator":
            raise ClusterError(f"task {task}; a job has one evaluator at most: evaluator:0")
        raise ClusterError(
            f"task {task} in a cluster without the job {task.type}; it has {', '.join(jobs)}: "
            "give the task one of these, or add the job to the cluster"
        )
    count = len(jobs[task.type])
    if task.index >= count:
        only = f"{task.type}:0 alone" if count == 1 else f"{task.type}:0 to {task.type}:{count - 1}"
        raise ClusterError(
            f"task index out of range: {task} in a cluster that has {only}; "
            "give the task one of these, or add its address to the cluster"
        )


def check_kind(jobs: Mapping[str, tuple[str, ...]], kind: str) -> None:
    """Checks that the jobs of a cluster are those that a strategy works with.

    Args:
        jobs: The cluster's checked jobs.
        kind: One of `KINDS`; the first three set no condition.

    Raises:
        ClusterError: A job is missing, or there is one that the strategy would hang on.
    """
    if kind not in KINDS:
        raise ClusterError(f"unknown kind of strategy {kind!r}; the kinds are {', '.join(KINDS)}")
    has = ", ".join(
        f"{len(addresses)} {job}{'s' if job == 'worker' and len(addresses) > 1 else ''}"
        for job, addresses in jobs.items()
    )
    if kind in ("multi_worker_mirrored", *MODEL_PARALLEL):
        if "ps" in jobs:
            raise ClusterError(
                f"ps in the cluster ({has}) under {kind}, which has chief and workers only; "
                "take the job ps out, or use the strategy parameter_server"
            )
        if not {"chief", "worker"} & set(jobs):
            raise ClusterError(f"no worker in the cluster ({has}); {kind} needs one or more")
    if kind == "parameter_server":
        for job, duty in (
            ("ps", "keep the variables"),
            ("worker", "compute"),
            ("chief", "coordinate"),
        ):
            if job not in jobs:
                raise ClusterError(
                    f"no {job} in the cluster ({has}); parameter_server needs a chief, workers "
                    f"and ps tasks: add a task of the job {job} to {duty}"
                )
        if "evaluator" in jobs:
            raise ClusterError(
                f"evaluator in the cluster ({has}) of a parameter_server job, which would never "
                "start (tensorflow#46169); take the job evaluator out of the cluster and give "
                "its process the same cluster with the task evaluator:0"
            )
