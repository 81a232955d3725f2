"""TF_CONFIG: the variable that TensorFlow itself reads, set by tfdist's launcher and platforms."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping

from tfdist.cluster import Cluster
from tfdist.errors import ClusterError

__all__ = ["TFConfigEnvironment", "check_spelling"]

_NAME = "TF_CONFIG"
_ALIKE = 0.86  # of difflib's ratio: a letter that is missing, wrong or swapped, another case


def check_spelling(environ: Mapping[str, str]) -> None:
    """Refuses a cluster in a variable whose name is nearly TF_CONFIG: its task would train alone.

    Args:
        environ: The variables of a process for which no cluster was found.

    Raises:
        ClusterError: There is one.
    """
    if _NAME in environ:
        return
    for name, value in environ.items():
        likeness = difflib.SequenceMatcher(None, name.upper(), _NAME).ratio()
        if likeness >= _ALIKE and _is_spec(value):
            raise ClusterError(
                f"{name} holds a cluster, and {_NAME} is not set: call the variable {_NAME}, or "
                "set TFDIST_ENVIRONMENT=alone to train alone"
            )


def _is_spec(text: str) -> bool:
    try:
        tree = json.loads(text)
    except ValueError:
        return False
    cluster = tree.get("cluster") if isinstance(tree, dict) else None
    return isinstance(cluster, dict) and all(isinstance(one, list) for one in cluster.values())


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
