"""Which machines a job has: the cluster spec and its tasks, as pure data.

Nothing here imports TensorFlow.
"""

from __future__ import annotations

from tfdist.cluster.spec import Cluster
from tfdist.cluster.task import Task

__all__ = ["Cluster", "Task"]
