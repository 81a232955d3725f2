"""A JSON file: TFDIST_CLUSTER names it, and TFDIST_TASK says which task this process is."""

from __future__ import annotations

from collections.abc import Mapping

from tfdist.cluster import Cluster, Task
from tfdist.errors import ClusterError

__all__ = ["FileEnvironment"]


class FileEnvironment:
    """Reads the cluster from a file, as TFDIST_CLUSTER=spec.json TFDIST_TASK=worker:1 ask for.

    A task in the file itself counts where TFDIST_TASK is not set.
    """

    name = "TFDIST_CLUSTER"

    def detect(self, environ: Mapping[str, str]) -> bool:
        """Tells whether TFDIST_CLUSTER names a file."""
        return bool(environ.get("TFDIST_CLUSTER", "").strip())

    def cluster(self, environ: Mapping[str, str]) -> Cluster:
        """Reads the cluster from the file."""
        path = environ.get("TFDIST_CLUSTER", "").strip()
        if not path:
            raise ClusterError("TFDIST_CLUSTER: not set; give the path of a JSON file")
        cluster = Cluster.from_file(path)
        name = environ.get("TFDIST_TASK", "").strip()
        if name:
            try:
                cluster = cluster.with_task(Task.parse(name))
            except ClusterError as error:
                raise ClusterError(f"TFDIST_TASK: {error}") from None
        if cluster.task is None:
            raise ClusterError(
                f"TFDIST_TASK: not set, and no task in {path}; say which task this process is, "
                f"for example TFDIST_TASK={cluster.tasks[0]}"
            )
        return cluster
