"""What a job has left behind: the bits of its last checkpoint, to compare with another run's."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfdist.errors import CheckpointError

__all__ = ["JobOutcome", "newest_checkpoint"]

_WEIGHTS = "model.weights.h5"
_JOB = "tfdist.npz"
_COUNT = "iteration"


@dataclass(frozen=True)
class JobOutcome:
    """How a job has ended, by its last checkpoint.

    Attributes:
        bits: a hash of weights, optimizer and history.
        iterations: the steps that its optimizers have counted.
    """

    bits: str
    iterations: tuple[int, ...]

    @classmethod
    def of(cls, folder: Path) -> JobOutcome:
        """Reads the newest checkpoint below a folder.

        Raises:
            CheckpointError: there is none, or it is not that of a run that has ended well.
        """
        path, ended_well = newest_checkpoint(folder)
        if not ended_well:
            raise CheckpointError(f"the run that wrote {path} has not ended well")
        digest = hashlib.sha256()
        counts: list[int] = []
        for name, array in _arrays_of(path):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
            if array.ndim == 0 and np.issubdtype(array.dtype, np.integer):
                counts.append(int(array))
        return cls(digest.hexdigest(), tuple(counts))


def newest_checkpoint(folder: Path) -> tuple[Path, bool]:
    """Returns the newest checkpoint below a folder, and whether its run has ended well.

    Raises:
        CheckpointError: there is none.
    """
    indexes = sorted(folder.rglob("checkpoint.json"), key=lambda path: path.stat().st_mtime)
    for index in reversed(indexes):
        entry = json.loads(index.read_text())
        if "file" in entry:
            return index.parent / entry["file"], bool(entry["finished"])
    raise CheckpointError(
        f"no checkpoint below {folder}: chaos compares what tfdist.callbacks.Checkpoint has "
        "written, in a folder below the working directory"
    )


def _arrays_of(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The weights and the optimizer's variables, in order, and the history."""
    import h5py  # comes with Keras

    with zipfile.ZipFile(path) as archive:
        weights = archive.read(_WEIGHTS)
        job = archive.read(_JOB) if _JOB in archive.namelist() else None
    found: list[tuple[str, np.ndarray]] = []

    def note(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            found.append((name, np.asarray(entry)))

    with h5py.File(io.BytesIO(weights)) as file:
        file.visititems(note)
    yield from sorted(found, key=lambda one: one[0])
    if job is not None:
        with np.load(io.BytesIO(job), allow_pickle=False) as parts:
            history = _history_of(json.loads(parts["tree"].tobytes()))
        yield "history", np.frombuffer(json.dumps(history).encode(), np.uint8)


def _history_of(tree: Any) -> Any:
    """What the callback History remembers, of a state as `job_state.to_bytes` has written it."""
    whole = dict(tree["dict"])
    return dict(whole["callbacks"]["dict"]).get("History/0")
