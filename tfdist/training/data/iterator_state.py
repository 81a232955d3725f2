"""The state of a `tf.data` iterator, for streams that draw an order that nobody can draw again.

A program without a seed shuffles in another order each time it runs. TensorFlow's own checkpoint of
an iterator holds that order, and the elements in its buffers.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdist.errors import CheckpointError

__all__ = ["restore", "save"]

_NAME = "iterator"
_FILES = (".index", ".data-00000-of-00001")


def save(iterator: tf.data.Iterator) -> list[np.ndarray] | None:
    """Returns the bytes of an iterator's checkpoint; None where TensorFlow can make none."""
    with tempfile.TemporaryDirectory(prefix="tfdist-") as folder:
        path = Path(folder) / _NAME
        # Python code and some sources keep a state that TensorFlow does not know.
        with contextlib.suppress(tf.errors.OpError):
            tf.train.Checkpoint(iterator=iterator).write(str(path))
            return [np.fromfile(f"{path}{suffix}", np.uint8) for suffix in _FILES]
    return None


def restore(iterator: tf.data.Iterator, state: list[np.ndarray]) -> None:
    """Has a fresh iterator over the same dataset go on where `save` was called.

    Raises:
        CheckpointError: it is over another one.
    """
    with tempfile.TemporaryDirectory(prefix="tfdist-") as folder:
        path = Path(folder) / _NAME
        for suffix, part in zip(_FILES, state, strict=True):
            part.tofile(f"{path}{suffix}")
        try:
            tf.train.Checkpoint(iterator=iterator).read(str(path)).assert_consumed()
        except (tf.errors.OpError, AssertionError, ValueError) as error:
            raise CheckpointError(
                "the data of the checkpoint were made by another dataset: train on the one of the "
                f"run that wrote it, or begin anew with resume=False ({error})"
            ) from error
