"""Which machines a job has: the cluster spec, its tasks, and their meeting before they start.

Nothing here imports TensorFlow.
"""

from __future__ import annotations

from tfdist.cluster.ports import Reservation
from tfdist.cluster.spec import Cluster
from tfdist.cluster.task import Task

__all__ = ["Cluster", "Reservation", "Task"]
