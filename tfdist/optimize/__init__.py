"""Whole-batch optimizers: every step sees all of the data, on workers that take portions of them.

`lbfgs.py`: `LBFGS`: what users call, and its arguments.
`minimizable.py`: which models, data and callbacks `minimize` takes, and what it refuses.
`descent_run.py`: one `minimize`: iterations, logs and callbacks; "goes on after iteration".
`descent.py`: the method: when it stops, when it begins anew. Knows scalars only.
`curvature.py`: the last pairs of steps and gradients, and their inverse Hessian.
`wolfe_search.py`: how long a step is: the line search.
`vector_space.py`: the vectors and the function as the method knows them, by numbers.
`server_vectors.py`: the vectors on parameter servers; inner products in one order.
`whole_batch.py`: one pass over the data: loss and gradient; data that change between passes.
`portions.py`: `Portions`: data that workers read by the numbers of portions.
`portion_source.py`: who reads a portion, the chief or a worker; what the function may return.
`portion_crew.py`: who works: a job's workers, or this process; no replicas in step.
`portion_ledger.py`: who gets which portion, how far ahead, when a slow one is copied.
`portion_gradient.py`: what a worker computes of a portion; refused: losses that are no mean, masks,
    random draws.
`portion_sums.py`: the order in which portions are added, the same whoever comes first.
`row_mean.py`: whether a loss is a mean over rows, by a batch and its halves.
`descent_folder.py`: the state on disk, by which a job that is started again goes on.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdist.optimize.lbfgs import LBFGS, Minimum, Portions

__all__ = ["LBFGS", "Minimum", "Portions"]


def __getattr__(name: str) -> Any:
    # The pure half of this room is there without TensorFlow.
    if name not in __all__:
        raise AttributeError(f"module 'tfdist.optimize' has no attribute {name!r}")
    return getattr(import_module("tfdist.optimize.lbfgs"), name)
