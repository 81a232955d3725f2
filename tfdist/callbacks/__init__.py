"""The Keras callbacks that tfdist adds.

`Checkpoint` keeps a job, `ExamplesPerSecond` tells its speed, `Phases` what its time goes into,
and `RayReport` tells Ray Train of it.
"""

from tfdist.callbacks.checkpoint import Checkpoint
from tfdist.callbacks.examples_per_second import ExamplesPerSecond
from tfdist.callbacks.phase_shares import Phases
from tfdist.callbacks.ray_report import RayReport

__all__ = ["Checkpoint", "ExamplesPerSecond", "Phases", "RayReport"]
