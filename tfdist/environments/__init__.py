"""Where a cluster comes from: one small file for each way in which a machine tells of it.

Nothing here imports TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from tfdist.cluster import Cluster
from tfdist.environments.base import Environment
from tfdist.environments.file import FileEnvironment
from tfdist.environments.local import LocalEnvironment
from tfdist.environments.tf_config import TFConfigEnvironment

__all__ = [
    "ENVIRONMENTS",
    "Environment",
    "FileEnvironment",
    "LocalEnvironment",
    "TFConfigEnvironment",
    "detect_cluster",
]

ENVIRONMENTS: tuple[Environment, ...] = (TFConfigEnvironment(), FileEnvironment())
"""The environments that are looked for, the first one found being taken.

TF_CONFIG comes first: the launcher sets it for each of its processes, which inherit a
TFDIST_CLUSTER from the shell that the launcher was started in.
"""


def detect_cluster(environ: Mapping[str, str] | None = None) -> Cluster | None:
    """Finds the cluster that this process belongs to.

    Args:
        environ: The variables to look in; those of this process by default.

    Returns:
        The cluster, with the task that this process is; None where no environment is there, so
        that the process is alone.

    Raises:
        ClusterError: The first environment that is there says something wrong.
    """
    variables = os.environ if environ is None else environ
    for environment in ENVIRONMENTS:
        if environment.detect(variables):
            return environment.cluster(variables)
    return None
