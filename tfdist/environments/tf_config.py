"""TF_CONFIG: the variable that TensorFlow itself reads, set by tfdist's launcher and platforms."""

from __future__ import annotations

from collections.abc import Mapping

from tfdist.cluster import Cluster
from tfdist.errors import ClusterError

__all__ = ["TFConfigEnvironment"]


class TFConfigEnvironment:
    """Reads TF_CONFIG, for example on Vertex AI or under Kubeflow's training operator."""

    name = "TF_CONFIG"

    def detect(self, environ: Mapping[str, str]) -> bool:
        """Tells whether TF_CONFIG is set to something, be it right or wrong."""
        return "".join(environ.get("TF_CONFIG", "").split()) not in ("", "{}")

    def cluster(self, environ: Mapping[str, str]) -> Cluster:
        """Reads the cluster from TF_CONFIG."""
        cluster = Cluster.from_environment(environ)
        if cluster is None:
            raise ClusterError("TF_CONFIG: empty; set it to a cluster and a task")
        return cluster
