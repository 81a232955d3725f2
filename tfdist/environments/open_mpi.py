"""Open MPI: what its mpirun tells a rank of the others, but for the names of hosts (TFDIST_HOSTS).

OMPI_COMM_WORLD_SIZE=4        ranks of the job
OMPI_COMM_WORLD_LOCAL_SIZE=2  of which are on this host
PMIX_NAMESPACE=...            the job's own name, of which its ports come
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from tfdist.environments.ranks import are_several, number, port_of_job
from tfdist.errors import ClusterError

__all__ = ["has_several", "has_started", "hosts_of_ranks", "port"]

_SIZE = "OMPI_COMM_WORLD_SIZE"


def has_started(environ: Mapping[str, str]) -> bool:
    """Whether mpirun has started this process."""
    return bool(environ.get(_SIZE, "").strip())


def has_several(environ: Mapping[str, str]) -> bool:
    """Whether it has started others, too."""
    return are_several(environ, _SIZE)


def port(environ: Mapping[str, str]) -> int:
    """The job's first port: jobs that share a host have others."""
    job = environ.get("PMIX_NAMESPACE") or environ.get("OMPI_MCA_ess_base_jobid", "")
    return port_of_job(zlib.crc32(job.encode()))


def hosts_of_ranks(hosts: tuple[str, ...], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Returns a host for each rank, by default one host after the other.

    Args:
        hosts: those that TFDIST_HOSTS names; none where all ranks are here.
        environ: variables of this process.

    Raises:
        ClusterError: there are other numbers of hosts and of ranks.
    """
    size = number(environ, _SIZE)
    here = number(environ, "OMPI_COMM_WORLD_LOCAL_SIZE", size)
    if not hosts and here == size:
        return ("127.0.0.1",) * size
    if hosts and len(hosts) < size and len(hosts) * here == size:
        hosts = tuple(host for host in hosts for _ in range(here))
    if hosts and len(hosts) != size:
        raise ClusterError(
            f"TFDIST_HOSTS names {len(hosts)} hosts for {size} ranks of Open MPI, {here} of them "
            "here; give a host for each rank"
        )
    return hosts
