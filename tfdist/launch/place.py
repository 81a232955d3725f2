"""Ports of this machine, held for a job: free ones for a new cluster, or those of a given one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from tfdist.cluster import Cluster, Task
from tfdist.cluster.address import Address
from tfdist.errors import ClusterError
from tfdist.machine.hosts import is_local, look_up
from tfdist.machine.places import LOOK_UP_SECONDS
from tfdist.machine.ports import Reservation, hold

__all__ = ["check_all_here", "check_jobs", "held_ports", "local_cluster"]


@contextlib.contextmanager
def local_cluster(
    workers: int = 1, ps: int = 0, chief: bool = False, evaluator: bool = False
) -> Iterator[Cluster]:
    """A cluster on this machine, with ports that stay this job's until the end of the block.

    Example:
        >>> with local_cluster(workers=2) as cluster:
        ...     run_job(["train.py"], cluster)

    Args:
        workers: How many workers.
        ps: How many parameter servers; one or more bring a chief with them.
        chief: Whether there is a chief beside the workers.
        evaluator: Whether there is an evaluator.

    Yields:
        The cluster, with no task chosen.

    Raises:
        ClusterError: The counts make no cluster, or the ports run out.
    """
    count = Cluster.task_count(workers, ps, chief, evaluator)
    with Reservation(count) as reservation:
        yield Cluster.local(workers, ps, chief, evaluator, ports=reservation.ports)


@contextlib.contextmanager
def held_ports(cluster: Cluster, tasks: Sequence[Task]) -> Iterator[None]:
    """Checks that the ports of some tasks are free, and holds them until the end of the block.

    Args:
        cluster: The cluster that gives the ports.
        tasks: The tasks of this machine.

    Raises:
        ClusterError: A port is in use; the message names the task, the port and who has it.
    """
    with contextlib.ExitStack() as stack:
        for task in tasks:
            if task.type not in cluster.jobs:  # an evaluator beside the cluster has no port
                continue
            cluster.with_task(task).validate(resolve=False)
            port = Address.parse(cluster.address(task)).port
            try:
                stack.enter_context(contextlib.closing(hold(port)))
            except OSError as error:  # taken since we looked
                raise ClusterError(
                    f"port {port} of {task} that cannot be held "
                    f"({(error.strerror or str(error)).lower()}); give {task} another port"
                ) from None
        yield


def check_jobs(cluster: Cluster) -> None:
    """Checks that a cluster with parameter servers has all the jobs that they need.

    Whether another cluster fits its strategy, only the script knows.

    Args:
        cluster: The cluster.

    Raises:
        ClusterError: A job is missing, or an evaluator is in the cluster.
    """
    if "ps" in cluster.jobs:
        cluster.with_task(None).validate("parameter_server", resolve=False)


def check_all_here(cluster: Cluster) -> None:
    """Checks that all tasks of a cluster have addresses of this machine.

    Args:
        cluster: The cluster.

    Raises:
        ClusterError: A task belongs on another machine.
    """
    addresses = {task: Address.parse(cluster.address(task)) for task in cluster.tasks}
    found = look_up([address.host for address in addresses.values()], LOOK_UP_SECONDS)
    elsewhere = []
    for task, address in addresses.items():
        ips = found[address.host]
        if isinstance(ips, str):
            elsewhere.append(f"{task} ({address}: {ips})")
        elif not any(is_local(ip) for ip in ips):
            elsewhere.append(f"{task} ({address})")
    if elsewhere:
        raise ClusterError(
            f"not on this machine: {', '.join(elsewhere)}; start each task on its own machine "
            "with --task, for example --task worker:0"
        )
