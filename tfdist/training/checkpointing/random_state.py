"""The random state of a model in its checkpoint: Keras' own files leave it out.

The seeds of layers such as Dropout are variables that count the numbers drawn. Without them a
resumed model would draw the masks of its first epochs again. They are one more part, `tfdist.json`,
of the `.keras` archive, which plain Keras does not look at.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import keras
import numpy as np

from tfdist.errors import CheckpointError

__all__ = ["add_random_state", "restore_random_state"]

_PART = "tfdist.json"


def add_random_state(path: Path, model: keras.Model) -> None:
    """Adds the seeds of a model to a `.keras` file that was just written."""
    seeds = [[seed.path, np.asarray(seed.value).tolist()] for seed in _seeds_of(model)]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_PART, json.dumps({"seeds": seeds}))


def restore_random_state(path: Path, model: keras.Model) -> None:
    """Sets the seeds of a model to what they were; a file without them (plain Keras') has none.

    Raises:
        CheckpointError: the file is of a model with other random layers.
    """
    with zipfile.ZipFile(path) as archive:
        if _PART not in archive.namelist():
            return
        saved = json.loads(archive.read(_PART))["seeds"]
    seeds = _seeds_of(model)
    if len(saved) != len(seeds):
        raise CheckpointError(
            f"{path} has the state of {len(saved)} random layers, but the model has {len(seeds)}: "
            "it is of another one; give another directory, or resume=False to start anew"
        )
    for seed, (_, value) in zip(seeds, saved, strict=True):
        seed.assign(np.asarray(value, np.dtype(seed.dtype)))


def _seeds_of(model: keras.Model) -> list[keras.Variable]:
    """A model's variables that are neither weights nor a metric's, in their order."""
    others = {id(v) for v in [*model.weights, *model.metrics_variables]}
    return [v for v in model.variables if id(v) not in others]
