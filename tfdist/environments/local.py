"""This machine alone: a cluster from counts, as "2 workers here"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfdist.cluster import Cluster

__all__ = ["LocalEnvironment"]


@dataclass(frozen=True)
class LocalEnvironment:
    """A cluster on this machine, asked for by counts and never found in the variables.

    Attributes:
        ports: One for each task, best held by a `tfdist.cluster.Reservation`.
        workers: How many workers.
        ps: How many parameter servers; one or more bring a chief with them.
        chief: Whether there is a chief beside the workers.
        evaluator: Whether there is an evaluator.
    """

    ports: Sequence[int]
    workers: int = 1
    ps: int = 0
    chief: bool = False
    evaluator: bool = False

    @property
    def name(self) -> str:
        """A short name for logs."""
        return "local"

    def detect(self, environ: Mapping[str, str]) -> bool:
        """Returns False: nothing in the variables asks for it."""
        return False

    def cluster(self, environ: Mapping[str, str]) -> Cluster:
        """Builds the cluster; no task is chosen."""
        return Cluster.local(self.workers, self.ps, self.chief, self.evaluator, ports=self.ports)
