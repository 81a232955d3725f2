"""The Keras callbacks that tfdist adds: `Checkpoint` keeps a job, `RayReport` tells Ray Train."""

from tfdist.callbacks.checkpoint import Checkpoint
from tfdist.callbacks.ray_report import RayReport

__all__ = ["Checkpoint", "RayReport"]
