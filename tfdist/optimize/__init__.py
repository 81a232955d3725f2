"""Whole-batch optimizers: every step sees all of the data, on workers that take portions of them.

`lbfgs` is what users call. `descent`, `curvature` and `wolfe_search` are the method itself, on
vectors that are known by their numbers alone (`vector_space`); `server_vectors` keeps these on the
parameter servers. `portion_ledger` says who works on which portion of the data, `portion_gradient`
what a worker computes of it, and `whole_batch` puts a pass over the data together.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdist.optimize.lbfgs import LBFGS, Minimum

__all__ = ["LBFGS", "Minimum"]


def __getattr__(name: str) -> Any:
    # The pure half of this room is there without TensorFlow.
    if name not in __all__:
        raise AttributeError(f"module 'tfdist.optimize' has no attribute {name!r}")
    return getattr(import_module("tfdist.optimize.lbfgs"), name)
