"""The random numbers of Python and of NumPy, from which Keras and people's data code draw."""

from __future__ import annotations

import random

import numpy as np

from tfdist.training.data.position import RandomState
from tfdist.training.data.stream import AllGatherNumbers

__all__ = ["follow_the_chief", "get_state", "set_state"]


def get_state() -> RandomState:
    """Returns the state of both global generators."""
    version, numbers, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    return [
        [version, list(numbers), gauss],
        [name, np.asarray(keys).tolist(), int(place), int(has_gauss), float(cached)],
    ]


def set_state(state: RandomState) -> None:
    """Sets both global generators to what `get_state` has returned."""
    (version, numbers, gauss), (name, keys, place, has_gauss, cached) = state
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state((name, np.asarray(keys, np.uint32), place, has_gauss, cached))


def follow_the_chief(all_gather: AllGatherNumbers) -> None:
    """Sets Python's generator on every worker to the chief's state."""
    version, numbers, gauss = random.getstate()
    told = all_gather([*numbers])[0].astype(int)
    random.setstate((version, tuple(int(n) for n in told), gauss))
