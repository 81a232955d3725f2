"""The Keras callbacks that tfdist adds; each runs on every worker.

`checkpoint.py`: `Checkpoint`: how often a job is saved, how many are kept (3), when it resumes
    ("no epoch left"), what becomes of weights that are not finite, which arguments are refused.
`examples_per_second.py`: `ExamplesPerSecond`: the speed of all workers, in the logs of batches and
    epochs.
`phase_shares.py`: `Phases`: the shares of an epoch's time: input, compute, exchange, callbacks,
    save.
`ray_report.py`: `RayReport`: metrics and checkpoints to Ray Train, and going on from Ray's newest.
"""

from tfdist.callbacks.checkpoint import Checkpoint
from tfdist.callbacks.examples_per_second import ExamplesPerSecond
from tfdist.callbacks.phase_shares import Phases
from tfdist.callbacks.ray_report import RayReport

__all__ = ["Checkpoint", "ExamplesPerSecond", "Phases", "RayReport"]
