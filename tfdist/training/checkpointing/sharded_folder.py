"""A checkpoint that parameter servers have written: a folder in TensorFlow's own format.

    epoch-00003.sharded/
        variables.index, variables.data-00000-of-00003, ...    by `tf.train.Checkpoint`
        state.zip                                              what the chief has written

Each server writes a file of what it keeps. A shard of a table goes there in blocks of rows, each a
variable of its own: so whoever reads it, into any number of shards, holds a block at a time.
`state.zip` has the list of variables and of the files with their sizes, the random states and the
state of the job; it is written last. `tf.train.load_checkpoint` opens the rest.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["SUFFIX", "Block", "Contents", "SavedVariable", "is_sharded", "prefix_in", "state_file"]

SUFFIX = ".sharded"
"""How the name of such a folder ends."""

_FORMAT = 1
_STATE = "state.zip"
_PART = "variables.json"
_PREFIX = "variables"


@dataclass(frozen=True)
class Block:
    """Rows of a shard, as one tensor of the files.

    Attributes:
        name: of the variable that `tf.train.Checkpoint` knows.
        first: the first row, counted within the shard.
        end: the row after the last; 0 where the whole is a scalar.
    """

    name: str
    first: int
    end: int

    @property
    def key(self) -> str:
        """The tensor's name in the files."""
        return f"{self.name}/.ATTRIBUTES/VARIABLE_VALUE"


@dataclass(frozen=True)
class SavedVariable:
    """A variable of plain Keras, as it lies in the files.

    Attributes:
        name: by which it is found again, such as `weight_0003`.
        path: Keras' path of it, for messages.
        shape: of the whole.
        dtype: of its elements.
        shards: into how many it was cut; shard k has the rows k, k + shards, k + 2 shards ...
        block_rows: how many rows of a shard are a tensor of the files.
    """

    name: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    shards: int = 1
    block_rows: int = 1

    def __post_init__(self) -> None:
        if self.shards < 1 or self.block_rows < 1 or any(size < 0 for size in self.shape):
            raise ValueError(f"{self} is no variable: there is at least a shard, and a row of it")
        if self.shards > 1 and len(self.shape) < 2:
            raise ValueError(f"{self} is no table, and has {self.shards} shards")

    def blocks(self, shard: int) -> list[Block]:
        """The tensors that a shard is cut into, in the order of its rows."""
        stem = f"{self.name}_shard_{shard}_block"
        if not self.shape:
            return [Block(f"{stem}_0", 0, 0)]
        rows = len(range(shard, self.shape[0], self.shards))
        return [
            Block(f"{stem}_{number}", first, min(rows, first + self.block_rows))
            for number, first in enumerate(range(0, rows, self.block_rows))
        ]


@dataclass(frozen=True)
class Contents:
    """What a folder has.

    Attributes:
        variables: in their order.
        files: the sizes of TensorFlow's files in bytes, by their names.
    """

    variables: Sequence[SavedVariable]
    files: Mapping[str, int]

    @classmethod
    def of(cls, folder: Path) -> Contents:
        """Reads what `add_to` wrote.

        Raises:
            OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile: it cannot be read.
        """
        with zipfile.ZipFile(state_file(folder)) as archive:
            entry = json.loads(archive.read(_PART))
        if entry["format"] != _FORMAT:
            raise ValueError(f"its format is {entry['format']}: a newer tfdist has written it")
        variables = [
            SavedVariable(**{**one, "shape": tuple(one["shape"])}) for one in entry["variables"]
        ]
        return cls(variables, dict(entry["files"]))

    def add_to(self, folder: Path) -> None:
        """Adds the list to the folder's `state.zip`."""
        variables: list[dict[str, Any]] = [asdict(one) for one in self.variables]
        entry = {"format": _FORMAT, "variables": variables, "files": dict(self.files)}
        with zipfile.ZipFile(state_file(folder), "a") as archive:
            archive.writestr(_PART, json.dumps(entry))

    def damage(self, folder: Path) -> str | None:
        """Says which of the files is not there or has another size; None where none is."""
        for name, size in self.files.items():
            try:
                found = (folder / name).stat().st_size
            except OSError as error:
                return f"its part {name} is not there ({(error.strerror or str(error)).lower()})"
            if found != size:
                return f"its part {name} has {found:,} bytes instead of {size:,}"
        return None


def is_sharded(path: Path) -> bool:
    """Whether a checkpoint is a folder of this kind, by its name."""
    return path.suffix == SUFFIX


def prefix_in(folder: Path) -> str:
    """The prefix by which TensorFlow finds the files of a folder."""
    return str(folder / _PREFIX)


def state_file(path: Path) -> Path:
    """The archive with random states and the state of the job: of a `.keras` file itself."""
    return path / _STATE if is_sharded(path) else path
