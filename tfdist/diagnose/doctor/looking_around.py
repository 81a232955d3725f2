"""What the doctor sees where it runs. Nothing of it starts TensorFlow, nor waits long."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
from collections.abc import Mapping

from tfdist import process
from tfdist.cluster import Cluster, Task
from tfdist.cluster.address import Address
from tfdist.diagnose.doctor import run_folder
from tfdist.diagnose.doctor.host_facts import HostFacts
from tfdist.environments import ENVIRONMENTS
from tfdist.errors import ClusterError
from tfdist.machine import capacities, ports
from tfdist.machine.gpus import gpus_here
from tfdist.machine.hosts import look_up
from tfdist.version import __version__

__all__ = ["look_around", "why_not_listen"]

_LOOK_UP_SECONDS = 3.0
_MOST_NAMES = 200
_PACKAGES = {
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly"),
    "keras": ("keras", "keras-nightly"),
}


def look_around(
    cluster: Cluster | None, folder: str | os.PathLike[str], environ: Mapping[str, str]
) -> HostFacts:
    """Looks at this machine.

    Args:
        cluster: The job, with this machine's task where it has one; None where nobody tells of one.
        folder: The run folder.
        environ: The variables of the process.
    """
    task = None if cluster is None else cluster.task
    open_files, _, file_size = capacities.limits()
    cards = gpus_here(environ)
    return HostFacts(
        task="" if task is None else str(task),
        host=socket.gethostname(),
        cores_of=capacities.cores_of(),
        cores=capacities.available_cores(),
        memory_of=capacities.memory_of(),
        memory=capacities.memory(),
        open_files=open_files,
        file_size=file_size,
        versions=_versions(),
        environments=tuple(one.name for one in ENVIRONMENTS if one.detect(environ)),
        names={} if cluster is None else _names(cluster),
        port="" if cluster is None or task is None else why_not_listen(cluster, task),
        folder=run_folder.probe(folder),
        gpus=cards.gpus,
        gpu_trouble=cards.trouble,
        secret=_has_secret(environ),
    )


def why_not_listen(cluster: Cluster, task: Task) -> str:
    """Why a task cannot listen at its port on this machine; "" where it can."""
    if task.type == "evaluator":  # it listens nowhere
        return ""
    return ports.busy(Address.parse(cluster.address(task)).port) or ""


def _names(cluster: Cluster) -> dict[str, tuple[str, ...] | str]:
    hosts = {Address.parse(cluster.address(task)).host: None for task in cluster.tasks}
    found = look_up(hosts, _LOOK_UP_SECONDS)
    # Of very many, only some are compared between the tasks; wrong ones are always told.
    few = {*list(hosts)[:_MOST_NAMES]}
    return {host: at for host, at in found.items() if host in few or isinstance(at, str)}


def _versions() -> dict[str, str]:
    found = {"tfdist": __version__}
    for name, packages in _PACKAGES.items():
        found[name] = next(filter(None, map(_version, packages)), "")
    return found | {"python": ".".join(platform.python_version_tuple()[:2])}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _has_secret(environ: Mapping[str, str]) -> bool:
    try:
        return bool(process.secret(environ))
    except ClusterError:  # told by `spec_checks.secret`
        return False
