"""By which workers find out that they read different data: a hash that travels with the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import tensorflow as tf

from tfdist.errors import DataError
from tfdist.structures import Nest
from tfdist.training.data.stream import leaves

__all__ = ["FLOATS", "check", "cut", "fingerprint_of", "fingerprint_of_order", "in_floats"]

_RANGE = 2**31 - 1
_BITS = 21
FLOATS = 3
"""Numbers that one fingerprint is cut into."""


def fingerprint_of(batch: Nest) -> tf.Tensor:
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


def cut(fingerprint: tf.Tensor) -> tf.Tensor:
    """`in_floats` in a graph, as int64 `[FLOATS]`."""
    shifts = tf.constant([_BITS * i for i in range(FLOATS)], tf.int64)
    mask = tf.constant(2**_BITS - 1, tf.int64)
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(fingerprint, shifts), mask)


_OWN = "pass a function of tf.distribute.InputContext that returns each worker's own examples"
_WHY = {
    "order": "its elements come in no fixed order, as deterministic=False asks for, so examples "
    "would be trained twice or not at all: leave deterministic=False out",
    "random": "a map with num_parallel_calls draws random numbers, which its calls take in no "
    "fixed order: leave num_parallel_calls out of that map, draw with tf.random.stateless_uniform "
    "and a seed from the element (zip the dataset with tf.data.Dataset.random(seed=1)), call "
    "tf.config.experimental.enable_op_determinism(), or augment in the model "
    "(keras.layers.RandomFlip)",
    "generator": "Python code makes them (a generator, a PyDataset), and others on each worker: "
    "seed what it draws from (np.random.default_rng(1), keras.utils.set_random_seed(1)), and have "
    "it read files in one order (sorted)",
    "python": "a map runs Python code (py_function, numpy_function), which draws random numbers "
    "or keeps a state of its own: seed it (keras.utils.set_random_seed(1)), and leave "
    "num_parallel_calls out of that map, whose calls come in no fixed order",
    "": "so examples would be trained twice or not at all: give every shuffle a seed "
    "(dataset.shuffle(n, seed=1)), call keras.utils.set_random_seed(1) first",
}


def check(
    fingerprints: Iterable[Iterable[float]], varies_with: Callable[[], set[str]] = set
) -> None:
    """Checks that every worker has read the same.

    Args:
        fingerprints: every worker's, in floats.
        varies_with: finds what may make a dataset differ, see `tf_datasets.varies_with`.

    Raises:
        DataError: they differ.
    """
    if len({tuple(one) for one in fingerprints}) > 1:
        found = varies_with()
        why = next((text for cause, text in _WHY.items() if cause in found), _WHY[""])
        raise DataError(
            f"the workers read different data in the same step: {why}; or {_OWN}"
            if found
            else f"the workers read different data in the same step, {why}, or {_OWN}"
        )
