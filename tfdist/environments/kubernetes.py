"""Kubernetes' job controllers that tell their pods of each other.

Sources: Kubeflow Trainer v2's torch runtime (PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR); Volcano's
plugins "svc" and "env" (VC_WORKER_HOSTS, VC_TASK_INDEX). Kubeflow's older training operator,
Volcano's plugin "tensorflow" and Vertex AI set TF_CONFIG; for an indexed Job, or a JobSet, see
`hosts_variable`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tfdist.cluster import Cluster, Task
from tfdist.cluster.task import JOBS, canonical_job
from tfdist.environments.node_list import expand
from tfdist.environments.ranks import DEFAULT_PORT, are_several, cluster_of_ranks, number
from tfdist.errors import ClusterError

__all__ = ["TrainJobEnvironment", "VolcanoEnvironment"]


class TrainJobEnvironment:
    """Reads what Kubeflow Trainer sets for torchrun: PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR."""

    name = "Kubeflow TrainJob"

    def detect(self, environ: Mapping[str, str]) -> bool:
        """Tells whether there are several nodes, and no hosts in TFDIST_HOSTS."""
        several = are_several(environ, "PET_NNODES")
        return several and not environ.get("TFDIST_HOSTS", "").strip()

    def cluster(self, environ: Mapping[str, str]) -> Cluster:
        """Reads the cluster: a worker on each node, where TFDIST_PS says nothing else."""
        if ":" in environ["PET_NNODES"]:
            raise ClusterError(
                f"PET_NNODES: {environ['PET_NNODES']!r}; a TrainJob of a fixed number of nodes is "
                "needed, or TFDIST_HOSTS with the hosts of all nodes, and TFDIST_RANK"
            )
        nodes, rank = number(environ, "PET_NNODES"), number(environ, "PET_NODE_RANK")
        first = environ.get("PET_MASTER_ADDR", "").strip()
        named = re.fullmatch(r"(.*-node-\d+-)0(\..*)?", first)
        if named is None:
            raise ClusterError(
                f"PET_MASTER_ADDR: {first!r}; the name of a TrainJob's first node is needed, as "
                "train-node-0-0.train: set TFDIST_HOSTS to the hosts of all nodes, and TFDIST_RANK"
            )
        hosts = [f"{named[1]}{index}{named[2] or ''}" for index in range(nodes)]
        return cluster_of_ranks(hosts, rank, environ, self.name)


class VolcanoEnvironment:
    """Reads VC_<TASK>_HOSTS of each task that has a job's name: chief, worker, ps, evaluator."""

    name = "Volcano"

    def detect(self, environ: Mapping[str, str]) -> bool:
        """Tells whether there are several pods."""
        return sum(len(expand(environ[name])) for name in environ if _task_of(name)) > 1

    def cluster(self, environ: Mapping[str, str]) -> Cluster:
        """Reads the cluster; this process' own name, HOSTNAME, says which task it is."""
        port = number(environ, "TFDIST_PORT", DEFAULT_PORT)
        found = {_task_of(name).lower(): name for name in environ if _task_of(name)}
        hosts = {
            canonical_job(task): expand(environ[name])
            for task, name in found.items()
            if task in (*JOBS, "master")
        }
        if not hosts:
            raise ClusterError(
                f"Volcano: tasks called {', '.join(found)}; call them chief, worker, ps and "
                "evaluator, or set TFDIST_ENVIRONMENT=alone for a training of its own in each pod"
            )
        own = environ.get("HOSTNAME", "").partition(".")[0]
        tasks = [
            Task(job, index)
            for job, names in hosts.items()
            for index, host in enumerate(names)
            if host.partition(".")[0] == own
        ]
        if len(tasks) != 1:
            pods = ", ".join(host for names in hosts.values() for host in names)
            raise ClusterError(f"Volcano: HOSTNAME {own!r} is none of its pods: {pods}")
        jobs = {job: tuple(f"{host}:{port}" for host in names) for job, names in hosts.items()}
        return Cluster(jobs).with_task(tasks[0])


def _task_of(variable: str) -> str:
    """The task that a variable of Volcano's lists the hosts of; "" where it is none."""
    found = re.fullmatch(r"VC_(.+)_HOSTS", variable)
    return found[1] if found else ""
