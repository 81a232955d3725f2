"""What Keras leaves out of its own files: random states, and how far a job has come.

The seeds of layers such as Dropout are variables that count the numbers drawn. Without them a
resumed model would draw the masks of its first epochs again. They are one more part, `tfdist.json`,
of the `.keras` archive, and the state of the job another, `tfdist.npz`; plain Keras looks at
neither. A sharded checkpoint has an archive for them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from tfdist.compat import keras_build
from tfdist.errors import CheckpointError
from tfdist.training.loop.job_state import JobState

__all__ = [
    "add_job_state",
    "add_random_state",
    "read_job_state",
    "restore_random_state",
    "seeds_of",
]

_PART = "tfdist.json"
_JOB = "tfdist.npz"


def add_random_state(
    path: Path, model: keras.Model, global_seeds: Sequence[keras.Variable]
) -> None:
    """Adds the seeds of a model, and Keras' global one, to an archive just written."""
    seeds = [[seed.path, np.asarray(seed.value).tolist()] for seed in seeds_of(model)]
    common = [np.asarray(seed.value).tolist() for seed in global_seeds]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_PART, json.dumps({"seeds": seeds, "global": common}))


def restore_random_state(path: Path, model: keras.Model) -> None:
    """Sets the seeds of a model to what they were; a file without them (plain Keras') has none.

    Raises:
        CheckpointError: the file is of a model with other random layers.
    """
    with zipfile.ZipFile(path) as archive:
        if _PART not in archive.namelist():
            return
        entry = json.loads(archive.read(_PART))
    saved, seeds = entry["seeds"], seeds_of(model)
    if len(saved) != len(seeds):
        raise CheckpointError(
            f"{path} has the state of {len(saved)} random layers, but the model has {len(seeds)}: "
            "it is of another one; give another directory, or resume=False to start anew"
        )
    values = [value for _, value in saved] + entry.get("global", [])
    for seed, value in zip([*seeds, *keras_build.global_seeds()], values, strict=False):
        seed.assign(np.asarray(value, np.dtype(seed.dtype)))


def add_job_state(path: Path, data: bytes) -> None:
    """Adds the bytes of a job's state to an archive just written."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_JOB, data)


def read_job_state(path: Path) -> JobState | None:
    """Returns the state of the job that wrote a file; None where the file has none."""
    with zipfile.ZipFile(path) as archive:
        if _JOB not in archive.namelist():
            return None
        return JobState.from_bytes(archive.read(_JOB))


def seeds_of(model: keras.Model) -> list[keras.Variable]:
    """A model's variables that are neither weights nor a metric's, in their order."""
    others = {id(v) for v in [*model.weights, *model.metrics_variables]}
    return [v for v in model.variables if id(v) not in others]
