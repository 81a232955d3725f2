"""The Keras callbacks that tfdist adds.

`Checkpoint` keeps a job, `ExamplesPerSecond` tells its speed, `RayReport` tells Ray Train of it.
"""

from tfdist.callbacks.checkpoint import Checkpoint
from tfdist.callbacks.examples_per_second import ExamplesPerSecond
from tfdist.callbacks.ray_report import RayReport

__all__ = ["Checkpoint", "ExamplesPerSecond", "RayReport"]
