"""A worker reads of arrays what its replicas train on, and of a dataset no more than once."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.comparing import seeded
from tests.training.models import LABELS, WEIGHTS, X
from tfdist.compat import keras_data
from tfdist.errors import DataError
from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.data.stream import Step, leaves

ROWS = len(X)
BATCH = 32
SIZES = [32, 32, 32, 9]
OF_WORKER_1 = np.concatenate([X[16:32], X[48:64], X[80:96], X[100:105]])
"""The second half of every batch."""


def worker(number: int, workers: int = 2, local: int = 1) -> ReplicaLayout:
    return ReplicaLayout(workers * local, number * local, local, number, workers, "worker")


def steps_of(data: GlobalBatches, epochs: int = 1) -> list[list[Step]]:
    return [list(data.make_iterator()) for _ in range(epochs)]


def keras_batches(epochs: int, shuffle: Any, *arrays: Any) -> list[list[Any]]:
    """What Keras' own adapter gives one process, epoch by epoch."""
    with seeded():
        adapter = keras_data.data_adapter(*arrays, batch_size=BATCH, shuffle=shuffle)
        batches = adapter.get_tf_dataset()
        return [list(batches) for _ in range(epochs)]


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of all rows that are read from arrays, as they are read."""
    read: list[int] = []
    gather = keras_data.gather_rows

    def note(numbers: np.ndarray) -> np.ndarray:
        read.extend(numbers.tolist())
        return numbers

    def counting(arrays: Any, numbers: tf.Tensor) -> Any:
        noted = tf.ensure_shape(tf.numpy_function(note, [numbers], tf.int64), numbers.shape)
        return gather(arrays, noted)

    monkeypatch.setattr(keras_data, "gather_rows", counting)
    return read


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("shuffle", [False, True, "batch"])
@pytest.mark.parametrize(("workers", "local"), [(2, 1), (3, 1), (2, 2)])
def test_the_workers_parts_are_the_batches_of_one_process(
    shuffle: Any, workers: int, local: int
) -> None:
    arrays = (X, LABELS, WEIGHTS)
    expected = keras_batches(2, shuffle, *arrays)
    found = []
    for number in range(workers):
        with seeded():
            layout = worker(number, workers, local)
            data = GlobalBatches(layout, *arrays, batch_size=BATCH, shuffle=shuffle)
            found.append(steps_of(data, epochs=2))
    for epoch, batches in enumerate(expected):
        assert [len(steps[epoch]) for steps in found] == [len(batches)] * workers
        for i, batch in enumerate(batches):
            parts = [part for steps in found for part in steps[epoch][i].parts]
            together = [np.concatenate(leaf) for leaf in zip(*parts, strict=True)]
            for one, other in zip(batch, together, strict=True):
                np.testing.assert_array_equal(one, other)
        seen = np.concatenate([batch[0] for batch in batches])
        assert np.array_equal(seen, X) is not bool(shuffle)  # or shuffles would not be compared


@pytest.mark.parametrize("number", [0, 1])
def test_a_worker_gathers_its_rows_and_the_one_that_all_compare(
    number: int, gathered: list[int]
) -> None:
    data = GlobalBatches(worker(number), X, LABELS, batch_size=BATCH)
    steps_of(data)
    first = [0, 32, 64, 96]
    own = [range(16), range(32, 48), range(64, 80), range(96, 100)]
    if number:
        own = [range(16, 32), range(48, 64), range(80, 96), range(100, 105)]
    assert sorted(gathered) == sorted([*first, *(row for rows in own for row in rows)])


def test_logical_devices_of_one_process_gather_each_row_once(gathered: list[int]) -> None:
    steps_of(GlobalBatches(worker(0, 1, 3), X, LABELS, batch_size=BATCH, shuffle=True))
    assert sorted(gathered) == list(range(ROWS))


def test_class_weights_become_the_rows_own_weights() -> None:
    weight = {0: 0.5, 1: 2.0, 2: 1.5}
    (steps,) = steps_of(GlobalBatches(worker(1), X, LABELS, batch_size=BATCH, class_weight=weight))
    for i, step in enumerate(steps):
        x, labels, weights = step.parts[0]
        rows = slice(i * BATCH + SIZES[i] // 2, i * BATCH + SIZES[i])
        np.testing.assert_array_equal(x, X[rows])
        np.testing.assert_array_equal(labels, LABELS[rows])
        np.testing.assert_array_equal(weights, [weight[label] for label in LABELS[rows]])


def test_a_replica_without_rows_gets_a_stand_in_that_counts_nothing() -> None:
    (steps,) = steps_of(GlobalBatches(worker(0, 2), X[:33], batch_size=32))
    (last,) = steps[-1].parts
    np.testing.assert_array_equal(last, X[32:33])
    assert (steps[-1].shares.numpy(), steps[-1].sizes.numpy()) == ([0.0], [0])


@pytest.mark.parametrize("kind", ["sparse", "ragged", "nested with None", "float64"])
def test_every_kind_of_array(kind: str) -> None:
    label: Any = LABELS
    if kind == "sparse":
        x: Any = tf.sparse.from_dense(np.where(np.abs(X) > 1, X, 0))
    elif kind == "ragged":
        lengths = [3 * (row % 2) + 1 for row in range(ROWS)]
        x = tf.RaggedTensor.from_row_lengths(np.arange(sum(lengths)), lengths)
    elif kind == "float64":
        x = X.astype("float64")
    else:
        x, label = {"a": X, "b": {"c": X[:, :2]}}, None
    (batch, *_), *_ = keras_batches(1, False, x, label)
    with seeded():
        data = GlobalBatches(worker(0), x, label, batch_size=BATCH)
        (steps,) = steps_of(data)
    specs = [(leaf.dtype, leaf.shape.as_list()[1:]) for leaf in leaves(data.sample_batch())]
    assert specs == [(leaf.dtype, leaf.shape.as_list()[1:]) for leaf in leaves(batch)]
    dense = [_dense(leaf) for leaf in leaves(steps[0].parts[0])]
    expected = [_dense(leaf)[:16] for leaf in leaves(batch)]
    for one, other in zip(dense, expected, strict=True):
        assert len(one) == 16
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def _dense(leaf: Any) -> np.ndarray:
    if isinstance(leaf, tf.SparseTensor):
        return tf.sparse.to_dense(leaf).numpy()
    if isinstance(leaf, tf.RaggedTensor):
        return leaf.to_tensor(shape=(None, 4)).numpy()
    return np.asarray(leaf)


# ---------------------------------------------------------------- fingerprints


def fingerprints(x: Any, number: int, **settings: Any) -> list[int]:
    with seeded():
        data = GlobalBatches(worker(number), x, LABELS, batch_size=BATCH, **settings)
        return [int(step.fingerprint) for step in steps_of(data)[0]]


@pytest.mark.parametrize("shuffle", [False, True, "batch"])
def test_workers_with_the_same_arrays_have_the_same_fingerprints(shuffle: Any) -> None:
    found = fingerprints(X, 0, shuffle=shuffle)
    assert found == fingerprints(X, 1, shuffle=shuffle)
    assert len(set(found)) == len(SIZES)  # one for each batch, and not the same for all


def test_arrays_in_another_order_have_other_fingerprints() -> None:
    assert fingerprints(X, 0) != fingerprints(X[::-1].copy(), 1)


def test_another_shuffle_of_the_same_arrays_has_other_fingerprints() -> None:
    one = fingerprints(X, 0, shuffle=True)
    keras.utils.set_random_seed(8)
    data = GlobalBatches(worker(1), X, LABELS, batch_size=BATCH, shuffle=True)
    assert one != [int(step.fingerprint) for step in steps_of(data)[0]]


# ---------------------------------------------------------------- datasets


class Counted:
    """A dataset of batches that counts how many examples have been decoded."""

    def __init__(self) -> None:
        self.decoded = 0
        examples = tf.data.Dataset.from_tensor_slices((X, LABELS)).map(self._decode)
        self.batches = examples.batch(BATCH)

    def _decode(self, x: tf.Tensor, label: tf.Tensor) -> Any:
        def count(values: np.ndarray) -> np.ndarray:
            self.decoded += 1
            return values

        return tf.ensure_shape(tf.numpy_function(count, [x], tf.float32), (8,)), label


def test_a_dataset_that_is_kept_is_read_once_and_gives_the_same_again() -> None:
    counted = Counted()
    data = GlobalBatches(worker(1), counted.batches, cache=True)
    first, second, third = steps_of(data, epochs=3)
    assert counted.decoded == ROWS
    np.testing.assert_array_equal(np.concatenate([step.parts[0][0] for step in first]), OF_WORKER_1)
    for one, two, three in zip(first, second, third, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, two)
        tf.nest.map_structure(np.testing.assert_array_equal, one, three)


def test_a_dataset_that_is_not_kept_is_read_in_every_epoch() -> None:
    counted = Counted()
    steps_of(GlobalBatches(worker(1), counted.batches), epochs=3)
    assert counted.decoded == 3 * ROWS


def test_what_is_kept_are_this_workers_rows() -> None:
    kept = steps_of(GlobalBatches(worker(1), Counted().batches, cache=True), epochs=2)
    read = steps_of(GlobalBatches(worker(1), Counted().batches))
    for epoch in kept:
        assert [len(step.parts[0][0]) for step in epoch] == [16, 16, 16, 5]
        x = np.concatenate([step.parts[0][0] for step in epoch])
        np.testing.assert_array_equal(x, OF_WORKER_1)
        for one, two in zip(epoch, read[0], strict=True):
            np.testing.assert_array_equal(one.parts[0][0], two.parts[0][0])


def test_an_endless_dataset_is_not_kept() -> None:
    with pytest.raises(DataError, match=r"never ends: it would fill the memory"):
        GlobalBatches(worker(0), Counted().batches.repeat(), cache=True)


def test_arrays_are_not_kept_a_second_time(gathered: list[int]) -> None:
    data = GlobalBatches(worker(0, 1, 2), X, batch_size=BATCH, shuffle=True, cache=True)
    steps_of(data, epochs=2)
    assert len(gathered) == 2 * ROWS


# ---------------------------------------------------------------- one replica


def test_one_replica_gets_the_batches_themselves() -> None:
    batches = tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(BATCH)
    (steps,) = steps_of(GlobalBatches(ReplicaLayout(), batches))
    assert [len(step.parts[0][0]) for step in steps] == SIZES
    together = [np.concatenate(leaf) for leaf in zip(*(s.parts[0] for s in steps), strict=True)]
    np.testing.assert_array_equal(together[0], X)
    np.testing.assert_array_equal(together[1], LABELS)
    assert [step.shares.numpy().tolist() for step in steps] == [[1.0]] * len(SIZES)


def test_one_replica_is_told_of_scalars_too() -> None:
    with pytest.raises(DataError, match="holds a scalar"):
        GlobalBatches(ReplicaLayout(), tf.data.Dataset.from_tensor_slices((X, LABELS)))
