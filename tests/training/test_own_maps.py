"""A worker maps only its own rows of a dataset, and gets what it would get of all rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.data.global_batches import GlobalBatches, share_out
from tfdist.training.data.map_pushdown import share_out_before_maps

ROWS = 45
X = np.arange(ROWS * 3, dtype="float32").reshape(ROWS, 3)
Y = np.arange(ROWS)


def base() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y))


def double(x: Any, y: Any) -> Any:
    return 2 * x, y


def layouts(workers: int, local: int) -> list[ReplicaLayout]:
    return [ReplicaLayout(workers * local, w * local, local, w, workers) for w in range(workers)]


SHARED: dict[str, Callable[[], tf.data.Dataset]] = {
    "a map": lambda: base().map(double).batch(12),
    "a shuffle, two maps, a full last batch": lambda: (
        base().take(36).shuffle(99, seed=1).map(double, tf.data.AUTOTUNE).map(double).batch(12)
    ),
    "without the last batch": lambda: base().map(double).batch(12, drop_remainder=True),
    "one row in the last batch": lambda: base().take(37).map(double).batch(12),
    "repeated and fetched ahead": lambda: base().map(double).batch(12).prefetch(1).repeat(2),
    "repeated before": lambda: base().repeat(2).map(double).batch(12).prefetch(1),
    "batched in parallel": lambda: base().map(double).batch(12, num_parallel_calls=2),
    "a length that nobody knows": lambda: (
        base().filter(lambda x, y: y % 4 > 0).map(double).batch(12)
    ),
    "dictionaries": lambda: base().map(lambda x, y: {"a": x, "b": y}).batch(12),
    "tuples of one": lambda: (
        tf.data.Dataset.from_tensor_slices((X,)).map(lambda x: (2 * x,)).batch(12)
    ),
    "single tensors": lambda: base().map(lambda x, y: x).map(tf.square).batch(12),
    "from strings": lambda: (
        tf.data.Dataset.range(40).map(tf.strings.as_string).map(tf.strings.to_number).batch(12)
    ),
    "ragged rows": lambda: (
        tf.data.Dataset.range(40).map(lambda i: tf.ragged.range([i % 5, 3])).batch(12)
    ),
    "a table": lambda: base().map(with_table()).batch(12),
}


def with_table() -> Callable[..., Any]:
    keys = tf.constant(Y)
    init = tf.lookup.KeyValueTensorInitializer(keys, keys * 10)
    table = tf.lookup.StaticHashTable(init, -1)
    return lambda x, y: (x, table.lookup(y))


@pytest.mark.parametrize(("workers", "local"), [(3, 1), (2, 2)])
@pytest.mark.parametrize("name", SHARED)
def test_the_steps_are_those_of_all_rows(name: str, workers: int, local: int) -> None:
    for layout in layouts(workers, local):
        dataset = SHARED[name]()
        early = share_out_before_maps(SHARED[name](), layout)  # shuffled as that, the first time
        assert early is not None
        expected, found = list(share_out(dataset, layout)), list(early)
        assert len(found) == len(expected) > 0
        for one, other in zip(expected, found, strict=True):
            one = one._replace(fingerprint=other.fingerprint)  # of what is mapped, or of batches
            tf.nest.map_structure(np.testing.assert_array_equal, as_arrays(one), as_arrays(other))
        spec, other_spec = share_out(dataset, layout).element_spec, early.element_spec
        assert tf.nest.map_structure(str, spec.parts) == tf.nest.map_structure(
            str, other_spec.parts
        )


def as_arrays(step: Any) -> Any:
    return tf.nest.map_structure(
        lambda leaf: leaf.to_list() if isinstance(leaf, tf.RaggedTensor) else leaf.numpy(),
        step._asdict(),
    )


def test_all_workers_see_the_same_fingerprints_and_others_for_other_data() -> None:
    def fingerprints(layout: ReplicaLayout, seed: int) -> list[int]:
        dataset = base().shuffle(99, seed=seed).map(double).batch(12)
        steps = share_out_before_maps(dataset, layout)
        assert steps is not None
        return [int(step.fingerprint) for step in steps]

    first, second = layouts(2, 1)
    assert fingerprints(first, 1) == fingerprints(second, 1) != fingerprints(second, 2)


def test_rows_of_others_are_not_mapped() -> None:
    """What the other worker trains on is no number, and an error to map."""
    dataset = tf.data.Dataset.from_tensor_slices(["1"] * 6 + ["one"] * 6)
    dataset = dataset.map(tf.strings.to_number).map(lambda x: (x[None], x)).batch(12)
    own, others = layouts(2, 1)
    [step] = list(GlobalBatches(own, dataset).make_iterator())
    np.testing.assert_array_equal(step.parts[0][0], np.ones((6, 1)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="one"):
        list(GlobalBatches(others, dataset).make_iterator())


def python_code(x: Any, y: Any) -> Any:
    return tf.ensure_shape(tf.numpy_function(lambda x: x, [x], tf.float32), (3,)), y


NOT_SHARED: dict[str, Callable[[], tf.data.Dataset]] = {
    "no map": lambda: base().batch(12),
    "a map of batches": lambda: base().batch(12).map(double),
    "a shuffle of what is mapped": lambda: base().map(double).shuffle(9, seed=1).batch(12),
    "random numbers": lambda: base().map(lambda x, y: (x + tf.random.normal((3,)), y)).batch(12),
    "Python": lambda: base().map(python_code).batch(12),
    "a batch that replicas cannot share evenly": lambda: base().map(double).batch(11),
    "elements of several shapes": lambda: (
        tf.data.Dataset.range(40)
        .map(tf.range, deterministic=None)
        .filter(lambda r: True)
        .map(tf.reduce_sum)
        .batch(12)
    ),
    "any order": lambda: base().map(double, 2, deterministic=False).batch(12),
}


@pytest.mark.parametrize("name", NOT_SHARED)
def test_all_rows_are_mapped_where_nothing_else_is_sure(name: str) -> None:
    assert share_out_before_maps(NOT_SHARED[name](), layouts(2, 1)[0]) is None


def test_one_process_maps_all_rows() -> None:
    assert share_out_before_maps(base().map(double).batch(12), ReplicaLayout(2, 0, 2)) is None
