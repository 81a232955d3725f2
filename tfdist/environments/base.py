"""What an environment is: a way in which a machine tells a process of its cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from tfdist.cluster import Cluster

__all__ = ["Environment"]


@runtime_checkable
class Environment(Protocol):
    """Where a cluster comes from."""

    @property
    def name(self) -> str:
        """A short name for logs, as "TF_CONFIG"."""

    def detect(self, environ: Mapping[str, str]) -> bool:
        """Tells whether this environment is there; cheap, and without judging what it says.

        Args:
            environ: The variables of the process.

        Returns:
            Whether `cluster` is to be asked.
        """

    def cluster(self, environ: Mapping[str, str]) -> Cluster:
        """Reads the cluster.

        Args:
            environ: The variables of the process.

        Returns:
            The cluster, with the task that this process is.

        Raises:
            ClusterError: The environment is there, and what it says is wrong.
        """
