"""The Keras callbacks that tfdist adds.

`Checkpoint` keeps a job, `Phases` says what its time goes into, `RayReport` tells Ray Train.
"""

from tfdist.callbacks.checkpoint import Checkpoint
from tfdist.callbacks.phase_shares import Phases
from tfdist.callbacks.ray_report import RayReport

__all__ = ["Checkpoint", "Phases", "RayReport"]
