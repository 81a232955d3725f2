"""TFDIST_HOSTS: the hosts of a job in the order of its ranks, which somebody else numbers.

TFDIST_HOSTS=train-[0-3].train   and JOB_COMPLETION_INDEX, as Kubernetes gives each pod of an
                                 indexed Job; its names are those of a headless service
TFDIST_HOSTS=a,b                 and OMPI_COMM_WORLD_RANK, as Open MPI's mpirun gives it
TFDIST_HOSTS=a,a,b               and TFDIST_RANK, by hand
"""

from __future__ import annotations

from collections.abc import Mapping

from tfdist.cluster import Cluster
from tfdist.environments import open_mpi
from tfdist.environments.node_list import expand
from tfdist.environments.ranks import DEFAULT_PORT, cluster_of_ranks, number
from tfdist.errors import ClusterError

__all__ = ["HostsEnvironment", "RanksEnvironment"]

_RANKS = ("TFDIST_RANK", "OMPI_COMM_WORLD_RANK", "JOB_COMPLETION_INDEX", "PMIX_RANK")


class HostsEnvironment:
    """Reads TFDIST_HOSTS and the rank that a scheduler gives.

    Processes that mpirun has started on one host need no TFDIST_HOSTS.
    """

    name = "TFDIST_HOSTS"

    def detect(self, environ: Mapping[str, str]) -> bool:
        """Tells whether there are hosts, or several ranks of mpirun's."""
        return open_mpi.has_several(environ) or bool(environ.get("TFDIST_HOSTS", "").strip())

    def cluster(self, environ: Mapping[str, str]) -> Cluster:
        """Reads the cluster: a worker for each rank, where TFDIST_PS says nothing else."""
        hosts, port = expand(environ.get("TFDIST_HOSTS", "")), DEFAULT_PORT
        if open_mpi.has_started(environ):
            hosts, port = open_mpi.hosts_of_ranks(hosts, environ), open_mpi.port(environ)
        if not hosts:
            raise _without_hosts(environ)
        rank = number(environ, _variable_of(environ))
        return cluster_of_ranks(hosts, rank, environ, self.name, port)


class RanksEnvironment:
    """Refuses a rank above 0 of which nothing tells where the others are."""

    name = "ranks"

    def detect(self, environ: Mapping[str, str]) -> bool:
        """Tells whether a variable gives a rank above 0."""
        return any(environ.get(name, "").strip() not in ("", "0") for name in _RANKS)

    def cluster(self, environ: Mapping[str, str]) -> Cluster:
        """Refuses it."""
        raise _without_hosts(environ)


def _variable_of(environ: Mapping[str, str]) -> str:
    return next((name for name in _RANKS if environ.get(name, "").strip()), _RANKS[0])


def _without_hosts(environ: Mapping[str, str]) -> ClusterError:
    variable = _variable_of(environ)
    rank = number(environ, variable)
    return ClusterError(
        f"this process is rank {rank} of several ({variable}={rank}), but nothing tells where the "
        "others are: set TFDIST_HOSTS to the hosts of all ranks, as a,b,c or node[0-2], or "
        "TF_CONFIG; or set TFDIST_ENVIRONMENT=alone for a training of its own in each process"
    )
