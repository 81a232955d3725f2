"""Slurm: the tasks of a step, as `srun` starts them.

Sources: "OUTPUT ENVIRONMENT VARIABLES" in the manual page of srun; steps of heterogeneous jobs list
their nodes and tasks together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tfdist.cluster import Cluster
from tfdist.environments.node_list import expand
from tfdist.environments.ranks import are_several, cluster_of_ranks, number, port_of_job
from tfdist.errors import ClusterError

__all__ = ["SlurmEnvironment", "gives_gpus", "ranks_by_node", "tasks_per_node", "why_not_alone"]


class SlurmEnvironment:
    """Reads SLURM_PROCID, SLURM_STEP_NODELIST and SLURM_STEP_TASKS_PER_NODE.

    Ports follow from the numbers of job and step, so that jobs that share a node differ.
    """

    name = "Slurm"

    def detect(self, environ: Mapping[str, str]) -> bool:
        """Tells whether this process is one of several tasks of a step."""
        return are_several(environ, "SLURM_STEP_NUM_TASKS") and "SLURM_PROCID" in environ

    def cluster(self, environ: Mapping[str, str]) -> Cluster:
        """Reads the cluster: a worker for each task, where TFDIST_PS says nothing else."""
        rank, local = number(environ, "SLURM_PROCID"), number(environ, "SLURM_LOCALID")
        hosts = expand(environ.get("SLURM_STEP_NODELIST", ""))
        counts = tasks_per_node(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
        if len(hosts) != len(counts):
            raise ClusterError(
                f"Slurm: {len(hosts)} nodes in SLURM_STEP_NODELIST, and {len(counts)} in "
                "SLURM_STEP_TASKS_PER_NODE; start the program by srun"
            )
        how = environ.get("SLURM_DISTRIBUTION", "").partition(":")[0]
        by_node = ranks_by_node(counts, how == "cyclic")
        host = {one: hosts[node] for node, ranks in enumerate(by_node) for one in ranks}
        node = number(environ, "SLURM_NODEID")
        if rank not in host or host[rank] != hosts[node] or by_node[node].index(rank) != local:
            raise ClusterError(
                f"Slurm: task {rank} is number {local} on node {node}, which is not so with the "
                "distributions block and cyclic; give srun --distribution=block"
            )
        port = port_of_job(number(environ, "SLURM_JOB_ID", 0), number(environ, "SLURM_STEP_ID", 0))
        return cluster_of_ranks(
            [host[one] for one in range(len(host))], rank, environ, self.name, port
        )


def tasks_per_node(text: str) -> list[int]:
    """Reads "2(x3),1": how many tasks each node has.

    Raises:
        ClusterError: it is no such text.
    """
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip(), re.ASCII)
        if found is None:
            raise ClusterError(
                f"SLURM_STEP_TASKS_PER_NODE: {text!r}; a list as 2(x3),1 is needed: start the "
                "program by srun"
            )
        counts += [int(found[1])] * int(found[2] or 1)
    return counts


def ranks_by_node(counts: Sequence[int], cyclic: bool) -> list[list[int]]:
    """Which ranks each node has: one node after the other, or the nodes in turn."""
    ranks: list[list[int]] = [[] for _ in counts]
    if cyclic:
        order = [
            node
            for turn in range(max(counts, default=0))
            for node, count in enumerate(counts)
            if turn < count
        ]
    else:
        order = [node for node, count in enumerate(counts) for _ in range(count)]
    for rank, node in enumerate(order):
        ranks[node].append(rank)
    return ranks


def gives_gpus(environ: Mapping[str, str]) -> bool:
    """Whether Slurm has bound some of a node's GPUs to this task of a step.

    It does by --gpus-per-task and --gpu-bind, and then shows a task fewer than the job has there.
    Else all tasks of a node see all.
    """
    seen = [one for one in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    there = environ.get("SLURM_GPUS_ON_NODE", "").strip()
    is_a_task = "SLURM_PROCID" in environ and there.isdecimal()
    return is_a_task and bool(seen) and len(seen) < int(there)


def why_not_alone(environ: Mapping[str, str]) -> str:
    """Why a process that trains alone may not be meant to; "" where nothing says so.

    A batch script, and a shell of salloc, stand in a job of several tasks which srun has not
    started.
    """
    if not are_several(environ, "SLURM_NTASKS") or "SLURM_STEP_ID" in environ:
        return ""
    return (
        f"this Slurm job is of {environ['SLURM_NTASKS'].strip()} tasks, but this process was not "
        "started by srun, and trains alone: start it as `srun python train.py`"
    )
