"""From a cluster to a real `tf.distribute.Strategy`."""

from __future__ import annotations

from tfdist.strategies.factory import strategy
from tfdist.strategies.layout import ReplicaLayout
from tfdist.strategies.registry import check_belongs, layout_of

__all__ = ["ReplicaLayout", "check_belongs", "layout_of", "strategy"]
