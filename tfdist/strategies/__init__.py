"""From a cluster to a real `tf.distribute.Strategy`."""

from __future__ import annotations

from tfdist.strategies.factory import strategy
from tfdist.strategies.layout import ReplicaLayout

__all__ = ["ReplicaLayout", "strategy"]
