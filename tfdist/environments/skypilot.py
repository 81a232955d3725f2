"""SkyPilot: one task on each node of a cluster that it has brought up.

Source: "Environment variables" in SkyPilot's documentation on distributed jobs.
"""

from __future__ import annotations

from collections.abc import Mapping

from tfdist.cluster import Cluster
from tfdist.environments.node_list import expand
from tfdist.environments.ranks import are_several, cluster_of_ranks, number

__all__ = ["SkyPilotEnvironment"]


class SkyPilotEnvironment:
    """Reads SKYPILOT_NODE_IPS and SKYPILOT_NODE_RANK."""

    name = "SkyPilot"

    def detect(self, environ: Mapping[str, str]) -> bool:
        """Tells whether there are several nodes."""
        return are_several(environ, "SKYPILOT_NUM_NODES")

    def cluster(self, environ: Mapping[str, str]) -> Cluster:
        """Reads the cluster: a worker on each node, where TFDIST_PS says nothing else."""
        hosts = expand(environ.get("SKYPILOT_NODE_IPS", ""))
        return cluster_of_ranks(hosts, number(environ, "SKYPILOT_NODE_RANK"), environ, self.name)
