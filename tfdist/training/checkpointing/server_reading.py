"""Brings a sharded checkpoint into a model, whose tables may be cut otherwise, or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfdist.errors import CheckpointError
from tfdist.strategies.server_variables import place_of
from tfdist.training.checkpointing.server_copies import described, in_words, parts_of
from tfdist.training.checkpointing.sharded_folder import Block, Contents, SavedVariable, prefix_in

__all__ = ["ServerReading"]


class ServerReading:
    """Reads the variables of one sharded checkpoint.

    A server reads its part itself, a block of rows at a time, where it sees the files; else this
    process reads, and sends block by block.

    Args:
        folder: a sharded checkpoint that looks whole.
        by_servers: whether the servers see the files.
    """

    def __init__(self, folder: Path, by_servers: bool) -> None:
        self._folder = folder
        self._by_servers = by_servers
        self._prefix = prefix_in(folder.absolute())

    def into(self, variables: Mapping[str, Any], whole: bool = True) -> str | None:
        """Sets variables to what the checkpoint has.

        Args:
            variables: by name, as of `ServerCopies`.
            whole: False where the checkpoint may have others, too.

        Returns:
            What is wrong with the files, in a few words: then some variables are set, and some are
            not. None where all is well.

        Raises:
            CheckpointError: the checkpoint is of another model.
        """
        there = {saved.name: saved for saved in Contents.of(self._folder).variables}
        if whole and (
            more := [saved.path for name, saved in there.items() if name not in variables]
        ):
            raise CheckpointError(
                f"{self._folder} has {len(more)} variables that the model or its optimizer has not "
                f"({more[0]}, ...): it is of another model; give another directory, or "
                "resume=False to start anew"
            )
        todo: dict[str, list[tuple[SavedVariable, Any, int]]] = {}
        for name, variable in variables.items():
            saved = self._found(there, name, variable)
            for shard, part in enumerate(parts_of(variable)):
                todo.setdefault(place_of(part), []).append((saved, variable, shard))
        try:
            if len(todo) == 1 or not self._by_servers:
                for place, those in todo.items():
                    self._read(place, those)
                return None
            with ThreadPoolExecutor(len(todo), thread_name_prefix="tfdist-reading") as pool:
                list(pool.map(self._read, todo, todo.values()))
        except _DAMAGE as error:
            return in_words(error)
        return None

    def _found(self, there: Mapping[str, SavedVariable], name: str, variable: Any) -> SavedVariable:
        own = described(name, variable)
        saved = there.get(name)
        if saved is None or saved.shape != own.shape:
            what = "nothing" if saved is None else f"{saved.path} of shape {saved.shape}"
            raise CheckpointError(
                f"{self._folder} has {what} for the variable {own.path} of shape {own.shape}: it "
                "is of another model; give another directory, or resume=False to start anew"
            )
        return saved

    def _read(self, place: str, todo: list[tuple[SavedVariable, Any, int]]) -> None:
        """Reads all that is on one device."""
        for saved, variable, shard in todo:
            parts = parts_of(variable)
            if hasattr(variable, "shards"):
                self._read_shard(place, saved, parts[shard].value, shard, len(parts))
            else:
                with tf.device(place):
                    variable.assign(self._whole(place, saved))

    def _whole(self, place: str, saved: SavedVariable) -> tf.Tensor:
        """The value of a variable that is not cut here."""
        parts = []
        for shard in range(saved.shards):
            blocks = [self._block(place, saved, block) for block in saved.blocks(shard)]
            if not blocks:
                blocks = [tf.zeros(saved.shape, saved.dtype)]
            parts.append(blocks[0] if len(blocks) == 1 else tf.concat(blocks, 0))
        if len(parts) == 1:
            return parts[0]
        rows = [tf.range(k, saved.shape[0], saved.shards) for k in range(saved.shards)]
        return tf.dynamic_stitch(rows, parts)

    def _read_shard(
        self, place: str, saved: SavedVariable, variable: tf.Variable, shard: int, shards: int
    ) -> None:
        """Sets one shard of several from those of the files, of which there may be fewer or more.

        Row r of the files' shard k is row i = r * saved.shards + k of the table, which is here if
        i % shards is this shard, in row i // shards. So every `step`th row of a block is here.
        """
        common = math.gcd(saved.shards, shards)
        step = shards // common
        for other in range(shard % common, saved.shards, common):
            for block in saved.blocks(other):
                rows = range(block.first, min(block.end, block.first + step))
                mine = [r for r in rows if (r * saved.shards + other) % shards == shard]
                if not mine:
                    continue
                first = (mine[0] * saved.shards + other) // shards
                with tf.device(place):
                    values = self._block(place, saved, block)[mine[0] - block.first :: step]
                    apart = saved.shards // common
                    indices = tf.range(values.shape[0]) * apart + first
                    tf.raw_ops.ResourceScatterUpdate(
                        resource=variable.handle,
                        indices=indices,
                        updates=tf.cast(values, variable.dtype),
                    )

    def _block(self, place: str, saved: SavedVariable, block: Block) -> tf.Tensor:
        """Reads a tensor of the files; TensorFlow compares its checksum."""
        with tf.device(place if self._by_servers else _HERE):
            [value] = tf.raw_ops.RestoreV2(
                prefix=self._prefix,
                tensor_names=[block.key],
                shape_and_slices=[""],
                dtypes=[tf.as_dtype(saved.dtype)],
            )
        return value


_HERE = "/device:CPU:0"

_DAMAGE = (
    tf.errors.DataLossError,
    tf.errors.OutOfRangeError,
    tf.errors.NotFoundError,
    tf.errors.FailedPreconditionError,
    tf.errors.PermissionDeniedError,
)
