"""The families of strategies that there are: a new one is a room of its own, and one line here."""

from __future__ import annotations

import tensorflow as tf

from tfdist.training.loop.family import FamilyKind
from tfdist.training.parameter_server import ParameterServerKind
from tfdist.training.pipelined import PipelineKind
from tfdist.training.synchronous import SynchronousKind

__all__ = ["FAMILIES", "family_of"]

FAMILIES: list[FamilyKind] = [PipelineKind(), ParameterServerKind(), SynchronousKind()]
"""The first that has a strategy is its family."""


def family_of(strategy: tf.distribute.Strategy) -> FamilyKind:
    """Returns the family of a strategy."""
    return next(kind for kind in FAMILIES if kind.has(strategy))
