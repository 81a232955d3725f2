"""Copies of a model's variables, made and written where the variables are: on their servers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import tf_saving
from tfdist.strategies.server_variables import place_of
from tfdist.training.checkpointing.sharded_folder import (
    SUFFIX,
    Block,
    Contents,
    SavedVariable,
    prefix_in,
    state_file,
)
from tfdist.training.checkpointing.snapshot import Snapshot

__all__ = ["ServerCopies", "described", "in_words", "on_servers", "parts_of"]

_BLOCK_BYTES = 64 << 20
"""How much of a shard is one tensor of the files: what a reader holds at once."""


class ServerCopies:
    """The values of a model's variables at one moment, each on the server of its variable.

    They are copied block by block, so that training may go on while TensorFlow writes them; until
    they are written, a server holds its variables twice. No value comes to this process but those
    of its own variables.

    Args:
        model: a built model; no step may be on its way.
        variables: its variables, and its optimizers', by name: Keras', or what has `shards`.

    Attributes:
        suffix: how the name of what is written ends.
    """

    suffix = SUFFIX

    def __init__(self, model: keras.Model, variables: Mapping[str, Any]) -> None:
        self._state = Snapshot.of_random_state(model)
        self._saved = [described(name, variable) for name, variable in variables.items()]
        self._copies: dict[str, tf.Variable] = {}
        weights = {id(v) for v in model.weights}
        todo: dict[str, list[tuple[SavedVariable, Block, Any, bool]]] = {}
        for saved, variable in zip(self._saved, variables.values(), strict=True):
            for shard, part in enumerate(parts_of(variable)):
                of_place = todo.setdefault(place_of(part), [])
                of_place += [(saved, b, part, id(part) in weights) for b in saved.blocks(shard)]
        with ThreadPoolExecutor(len(todo), thread_name_prefix="tfdist-copies") as pool:
            infected = [lost for some in pool.map(self._copy, todo, todo.values()) for lost in some]
        self._not_finite = min(infected, key=[s.path for s in self._saved].index, default="")

    def _copy(self, place: str, todo: list[tuple[SavedVariable, Block, Any, bool]]) -> list[str]:
        """Copies what is on one server; returns the paths of weights that are not finite."""
        good = []
        with tf.device(place):
            for _, block, part, is_weight in todo:
                value = _rows(part.value, block) if block.end else tf.identity(part.value)
                if is_weight and value.dtype.is_floating:
                    good.append(tf.reduce_all(tf.math.is_finite(value)))
                else:
                    good.append(tf.size(value) >= 0)
                self._copies[block.name] = tf.Variable(value, trainable=False, name=block.name)
            whole: Any = np.asarray(tf.stack(good)) if good else ()  # they are there, too
        return [saved.path for (saved, *_), is_good in zip(todo, whole, strict=True) if not is_good]

    def not_finite(self) -> str:
        """The path of the first weight that is NaN or infinite somewhere; "" where none is."""
        return self._not_finite

    def save(self, folder: Path, job: bytes) -> None:
        """Has the servers write what they keep, and adds what is this process' own.

        Args:
            folder: does not exist yet.
            job: the state of the job.

        Raises:
            OSError: a file could not be written, by this process or by a server.
            tf.errors.OpError: a server is lost.
        """
        folder.mkdir()
        tf_saving.quiet_tracing()
        try:
            tf.train.Checkpoint(**self._copies).write(prefix_in(folder.absolute()))
        except _OF_FILES as error:
            raise OSError(in_words(error)) from error
        finally:
            self._release()
        files = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        Contents(self._saved, files).add_to(folder)
        self._state.add_to(state_file(folder), job)

    def _release(self) -> None:
        # Not left to Python: what TensorFlow has traced to write them holds them in a cycle.
        for copy in self._copies.values():
            with tf.device(copy.device):
                tf.raw_ops.DestroyResourceOp(resource=copy.handle, ignore_lookup_error=True)
        self._copies.clear()


_OF_FILES = (
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.FailedPreconditionError,
    tf.errors.DataLossError,
)
"""What TensorFlow makes of the errors of a file system; the loss of a server is none of them."""


def parts_of(variable: Any) -> tuple[keras.Variable, ...]:
    """A variable's shards; itself where it has none."""
    return tuple(getattr(variable, "shards", (variable,)))


def described(name: str, variable: Any) -> SavedVariable:
    """How a variable is to lie in the files."""
    parts = parts_of(variable)
    dtype = tf.as_dtype(parts[0].value.dtype)
    shape = tuple(int(size) for size in variable.shape)
    row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.size
    path = parts[0].path if len(parts) == 1 else parts[0].path.rpartition("_shard_")[0]
    rows = max(1, _BLOCK_BYTES // max(1, row))
    return SavedVariable(name, path, shape, dtype.name, len(parts), rows)


def on_servers(variables: Iterable[Any]) -> dict[str, int]:
    """The bytes of variables that parameter servers keep, by the device."""
    found: dict[str, int] = {}
    for part in _all_parts(variables):
        place = place_of(part)
        if "/job:ps/" in place:
            size = int(np.prod(part.shape, dtype=np.int64)) * tf.as_dtype(part.value.dtype).size
            found[place] = found.get(place, 0) + size
    return found


def _all_parts(variables: Iterable[Any]) -> Iterator[keras.Variable]:
    for variable in variables:
        yield from parts_of(variable)


def _rows(variable: tf.Variable, block: Block) -> tf.Tensor:
    """A copy of some rows; to read the whole would copy a table for each block."""
    return tf.raw_ops.ResourceGather(
        resource=variable.handle, indices=tf.range(block.first, block.end), dtype=variable.dtype
    )


def in_words(error: tf.errors.OpError) -> str:
    """What TensorFlow says of a file, without the names of its operations."""
    line = str(error.message).strip().partition("\n")[0]
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:\w+\].*", "", line)
