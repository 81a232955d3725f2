"""By which workers find out that they read different data: a hash that travels with the metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tfdist.errors import DataError
from tfdist.training.stream import leaves

__all__ = ["FLOATS", "check", "fingerprint_of", "fingerprint_of_order", "in_floats"]

_RANGE = 2**31 - 1
_BITS = 21
FLOATS = 3
"""Numbers that one fingerprint is cut into."""


def fingerprint_of(batch: Any) -> tf.Tensor:
    """Hashes the first row of every tensor of the batch."""
    total = tf.zeros((), tf.int64)
    for leaf in leaves(batch):
        if isinstance(leaf, tf.RaggedTensor):
            leaf = leaf.flat_values
        elif isinstance(leaf, tf.SparseTensor):
            leaf = leaf.values
        total += _hash(leaf[:1])
    return total


def fingerprint_of_order(numbers: tf.Tensor) -> tf.Tensor:
    """Hashes which rows of the arrays a global batch has (int64 numbers), in their order."""
    return _hash(numbers)


def _hash(tensor: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(tf.io.serialize_tensor(tensor), _RANGE)


def in_floats(fingerprint: int) -> list[float]:
    """Cuts 63 bits into numbers that float32 holds exactly, to travel with the metrics."""
    return [float((fingerprint >> _BITS * i) & (2**_BITS - 1)) for i in range(FLOATS)]


def check(fingerprints: Iterable[Iterable[float]]) -> None:
    """Checks that every worker has read the same.

    Args:
        fingerprints: every worker's, in floats.

    Raises:
        DataError: they differ.
    """
    if len({tuple(one) for one in fingerprints}) > 1:
        raise DataError(
            "the workers read different data in the same step, so examples would be trained twice "
            "or not at all: give every shuffle a seed (dataset.shuffle(n, seed=1)), call "
            "keras.utils.set_random_seed(1) first, or pass a function of "
            "tf.distribute.InputContext that returns each worker's own examples"
        )
