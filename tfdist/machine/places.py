"""What a cluster meets in the world: the port of this process's task, the hosts of all."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tfdist.cluster.address import Address
from tfdist.errors import ClusterError, PortInUse, RendezvousTimeout
from tfdist.machine import ports
from tfdist.machine.hosts import UNANSWERED, is_local, look_up

if TYPE_CHECKING:
    from tfdist.cluster.spec import Cluster

__all__ = ["LOOK_UP_SECONDS", "await_hosts", "check_hosts", "check_own_port"]

LOOK_UP_SECONDS = 0.7
"""How long names are looked up at most, so that the whole validation stays under a second."""

_ROUND_SECONDS, _LOOK_AGAIN_SECONDS = 5.0, 0.5


def check_own_port(cluster: Cluster) -> None:
    """Checks that this process can listen at its task's port; an evaluator does not listen.

    Args:
        cluster: The cluster; nothing is checked where it has no task.

    Raises:
        PortInUse: It cannot; the message names the process where the system tells.
    """
    task = cluster.task
    if task is None or task.type == "evaluator":
        return
    address = Address.parse(cluster.address(task))
    if reason := ports.busy(address.port):
        advice = f"end that process, or give {task} another port in the cluster of every task"
        if f"process {os.getpid()}, this one" in reason:
            advice = (
                "make one strategy in a process and use it everywhere, and no server of the "
                "script's own (tf.distribute.Server) at that port"
            )
        raise PortInUse(f"port {address.port} of {task} ({address}) that is {reason}; {advice}")


def check_hosts(cluster: Cluster) -> None:
    """Checks that the hosts of a cluster resolve, and to places that do not collide.

    Args:
        cluster: The cluster.

    Raises:
        ClusterError: A host does not resolve, or two tasks are at one place.
    """
    addresses = {str(task): Address.parse(cluster.address(task)) for task in cluster.tasks}
    found = look_up([address.host for address in addresses.values()], LOOK_UP_SECONDS)
    places: dict[tuple[frozenset[str], int], str] = {}
    late = []
    for task, address in addresses.items():
        ips = found[address.host]
        if ips == UNANSWERED:
            late.append(f"{task} ({address})")
        elif isinstance(ips, str):
            raise ClusterError(
                f"host {address.host!r} of {task} that does not resolve ({ips}); mend its name "
                "in the cluster, or make it known to this machine (DNS, /etc/hosts)"
            )
        else:
            first = places.setdefault((frozenset(ips), address.port), task)
            if first != task:
                raise ClusterError(
                    f"duplicate address: {first} at {addresses[first]} and {task} at {address} "
                    f"are one place ({', '.join(ips)}); give every task its own host or port"
                )
    if late:
        _warn(f"{', '.join(late)}: {UNANSWERED}; going on without checking the host")
    _warn_of_odd_places(cluster, addresses, found)


def await_hosts(cluster: Cluster, seconds: float) -> None:
    """Waits until the hosts of a cluster resolve, whose tasks have come already.

    Args:
        cluster: The cluster.
        seconds: How long at most.

    Raises:
        RendezvousTimeout: One does not.
    """
    hosts = {Address.parse(cluster.address(task)).host: task for task in cluster.tasks_that_meet}
    unknown = dict.fromkeys(hosts, UNANSWERED)
    until = time.monotonic() + seconds
    while True:
        found = look_up(unknown, _ROUND_SECONDS)
        unknown = {host: why for host, why in found.items() if isinstance(why, str)}
        if not unknown:
            return
        if time.monotonic() >= until:
            host, why = next(iter(unknown.items()))
            raise RendezvousTimeout(
                f"{hosts[host]} is here, but its host {host!r} does not resolve after "
                f"{seconds:.0f} s ({why}); see whether the job has its headless service, and the "
                "name server of the cluster is well"
            )
        time.sleep(_LOOK_AGAIN_SECONDS)


def _warn_of_odd_places(
    cluster: Cluster, addresses: dict[str, Address], found: dict[str, tuple[str, ...] | str]
) -> None:
    """Warns of what may be right (behind a port mapping, say) and mostly is not."""
    local = [task for task, address in addresses.items() if address.is_loopback]
    if local and len(local) < len(addresses):
        _warn(f"{', '.join(local)}: at the loopback, which no other machine can reach")
    own = addresses.get(str(cluster.task))
    ips = found[own.host] if own is not None else ()
    if isinstance(ips, tuple) and ips and not any(map(is_local, ips)):
        _warn(
            f"{cluster.task}: its address {own} ({', '.join(ips)}) is none of this machine's; "
            "is this the right task here?"
        )


def _warn(text: str) -> None:
    from absl import logging  # late, as it takes more time to import than the rest of the room

    logging.warning("%s", text)
