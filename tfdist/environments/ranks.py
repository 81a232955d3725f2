"""From ranks to tasks: what a scheduler counts from 0 gets a job, an index and an address.

rank      0      1       2       3    4          of 5, with TFDIST_PS=1 and TFDIST_EVALUATOR=1
task    chief worker:0 worker:1 ps:0 evaluator
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tfdist.cluster import Cluster, Task
from tfdist.errors import ClusterError

__all__ = ["DEFAULT_PORT", "are_several", "cluster_of_ranks", "number", "port_of_job"]

DEFAULT_PORT = 20000
"""Where tasks listen that have a host of their own; those that share it count on from there."""

_BLOCK, _BLOCKS = 16, 750  # up to 32,000: above it systems hand out ports of their own choice


def port_of_job(job: int, step: int = 0) -> int:
    """Returns the first of 16 ports, which jobs that share a host are unlikely to share."""
    return DEFAULT_PORT + _BLOCK * ((job + 37 * step) % _BLOCKS)


def cluster_of_ranks(
    hosts: Sequence[str],
    rank: int,
    environ: Mapping[str, str],
    name: str,
    port: int = DEFAULT_PORT,
) -> Cluster:
    """Builds the cluster of processes that a scheduler has started, and numbered.

    TFDIST_PS, TFDIST_CHIEF and TFDIST_EVALUATOR say which of them are no workers, as the options of
    `tfdist run` do; TFDIST_PORT gives another first port.

    Args:
        hosts: one for each rank.
        rank: of this process.
        environ: the variables of the process.
        name: of the environment, for errors.
        port: the first port on each host.

    Returns:
        The cluster, with this process' task.

    Raises:
        ClusterError: there is no such rank, or the roles leave no worker.
    """
    if not 0 <= rank < len(hosts):
        raise ClusterError(
            f"{name}: rank {rank} of {len(hosts)}; ranks go from 0 to {len(hosts) - 1}"
        )
    first = number(environ, "TFDIST_PORT", port)
    on_host: Counter[str] = Counter()
    addresses = []
    for host in hosts:
        addresses.append(f"[{host}]:" if ":" in host else f"{host}:")
        addresses[-1] += str(first + on_host[host])
        on_host[host] += 1
    tasks = _tasks(len(hosts), environ, name)
    jobs: dict[str, list[str]] = {}
    for task, address in zip(tasks, addresses, strict=True):
        if task.type != "evaluator" or "ps" not in jobs:  # theirs stands beside the cluster
            jobs.setdefault(task.type, []).append(address)
    cluster = Cluster({job: tuple(where) for job, where in jobs.items()})
    return cluster.with_task(tasks[rank])


def number(environ: Mapping[str, str], variable: str, default: int | None = None) -> int:
    """Reads a number from a variable.

    Raises:
        ClusterError: it holds none, or is not there and has no default.
    """
    text = environ.get(variable, "").strip()
    if not text and default is not None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise ClusterError(f"{variable}: {text!r}; a number of 0 or more is needed")
    return int(text)


def are_several(environ: Mapping[str, str], variable: str) -> bool:
    """Whether a variable gives a number of processes, and another one than 1."""
    return environ.get(variable, "").strip() not in ("", "1")


def _tasks(count: int, environ: Mapping[str, str], name: str) -> list[Task]:
    """Which task each rank is: a chief, workers, parameter servers, an evaluator."""
    servers = number(environ, "TFDIST_PS", 0)
    chiefs = int(bool(servers) or number(environ, "TFDIST_CHIEF", 0) > 0)
    evaluators = int(number(environ, "TFDIST_EVALUATOR", 0) > 0)
    workers = count - chiefs - servers - evaluators
    if workers < 1:
        raise ClusterError(
            f"{name} has {count} tasks, of which a chief, parameter servers (TFDIST_PS={servers}) "
            f"and an evaluator leave {max(workers, 0)} workers; start more tasks"
        )
    counts = {"chief": chiefs, "worker": workers, "ps": servers, "evaluator": evaluators}
    return [Task(job, index) for job, much in counts.items() for index in range(much)]
