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

from tfdist.errors import CheckpointError
from tfdist.training.checkpointing.sharded_folder import (
    Contents,
    is_sharded,
    prefix_in,
    state_file,
)

__all__ = ["JobOutcome", "largest_file", "newest_checkpoint"]

_WEIGHTS = "model.weights.h5"
_JOB = "tfdist.npz"


@dataclass(frozen=True)
class JobOutcome:
    """How a job has ended, by its last checkpoint.

    Attributes:
        bits: a hash of weights, optimizer and history.
        iterations: the updates that its optimizers have counted.
        epochs: how many it has trained.
    """

    bits: str
    iterations: tuple[int, ...]
    epochs: int

    @classmethod
    def of(cls, folder: Path) -> JobOutcome:
        """Reads the newest checkpoint below a folder.

        Raises:
            CheckpointError: there is none, or it is not that of a run that has ended well.
        """
        index = _newest_index(folder)
        path, ended_well = _named_by(index)
        if not ended_well:
            raise CheckpointError(f"the run that wrote {path} has not ended well")
        digest = hashlib.sha256()
        counts: list[int] = []
        for name, array in _arrays_of(path):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
            if array.shape == () and array.dtype.kind in "iu":
                counts.append(int(array))
        digest.update(json.dumps(_history_of(path)).encode())
        epochs = int(json.loads(index.read_text())["epoch"])
        return cls(digest.hexdigest(), tuple(counts), epochs)

    def compared_with(self, undisturbed: JobOutcome) -> str:
        """Says how it ended, beside a job that nobody has disturbed.

        Returns:
            "same bits"; "same counts", and how many updates were made twice, as a lost worker of
            parameter servers that reads its own data had sent them before; or "differs".
        """
        if self.bits == undisturbed.bits:
            return "same bits"
        pairs = list(zip(self.iterations, undisturbed.iterations, strict=False))
        alike = len(self.iterations) == len(undisturbed.iterations)
        if not alike or self.epochs != undisturbed.epochs or any(one < of for one, of in pairs):
            return "differs"
        twice = max((one - of for one, of in pairs), default=0)
        told = f", {twice} update{'s' if twice > 1 else ''} twice" if twice else ""
        return f"same counts{told}"


def newest_checkpoint(folder: Path) -> tuple[Path, bool]:
    """Returns the newest checkpoint below a folder, and whether its run has ended well.

    Raises:
        CheckpointError: there is none.
    """
    return _named_by(_newest_index(folder))


def _newest_index(folder: Path) -> Path:
    indexes = sorted(folder.rglob("checkpoint.json"), key=lambda path: path.stat().st_mtime)
    for index in reversed(indexes):
        if "file" in json.loads(index.read_text()):
            return index
    raise CheckpointError(
        f"no checkpoint below {folder}: chaos compares what tfdist.callbacks.Checkpoint has "
        "written, in a folder below the working directory"
    )


def _named_by(index: Path) -> tuple[Path, bool]:
    entry = json.loads(index.read_text())
    return index.parent / entry["file"], bool(entry["finished"])


def largest_file(checkpoint: Path) -> Path:
    """A checkpoint's file; where it is a folder, the largest in it."""
    if not checkpoint.is_dir():
        return checkpoint
    return max(checkpoint.iterdir(), key=lambda file: file.stat().st_size)


def _arrays_of(path: Path) -> Iterator[tuple[str, Any]]:
    """The weights and the optimizer's variables, as arrays by name, in order."""
    return _arrays_of_shards(path) if is_sharded(path) else iter(_arrays_of_keras(path))


def _arrays_of_shards(path: Path) -> Iterator[tuple[str, Any]]:
    """The same of a sharded checkpoint, a block of rows at a time."""
    import numpy as np
    import tensorflow as tf  # for such a checkpoint alone

    reader = tf.train.load_checkpoint(prefix_in(path.absolute()))
    for variable in Contents.of(path).variables:
        for shard in range(variable.shards):
            for block in variable.blocks(shard):
                yield block.name, np.asarray(reader.get_tensor(block.key))


def _arrays_of_keras(path: Path) -> list[tuple[str, Any]]:
    import h5py  # comes with Keras

    found: list[tuple[str, Any]] = []

    def note(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            found.append((name, entry[()]))

    with zipfile.ZipFile(path) as archive:
        weights = io.BytesIO(archive.read(_WEIGHTS))
    with h5py.File(weights) as file:
        file.visititems(note)
    return sorted(found, key=lambda one: one[0])


def _history_of(path: Path) -> Any:
    """What the callback History remembers, in a state that `job_state.to_bytes` has written."""
    with zipfile.ZipFile(state_file(path)) as archive:
        if _JOB not in archive.namelist():
            return None
        with zipfile.ZipFile(io.BytesIO(archive.read(_JOB))) as parts:
            text = parts.read("tree.npy").partition(b"\n")[2]  # after NumPy's header
    callbacks = dict(dict(json.loads(text)["dict"])["callbacks"]["dict"])
    return callbacks.get("History/0")
