"""Data that lie on the replicas' GPUs, or travel there ahead of the step, give the same numbers.

Logical CPUs stand in for the GPUs: they have no memory of their own, but the programs are the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tests.training.comparing import alone, in_plain_keras, mirrored, on_strategy, same
from tests.training.models import (
    FIT,
    LABELS,
    TOKENS,
    TWO_IN,
    TWO_OUT,
    WEIGHTS,
    X,
    classifier,
    regressor,
    two_in_two_out,
)
from tfdist.errors import DataError, PlugError
from tfdist.strategies import own_gpus
from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.data import resident
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.data.stream import Step
from tfdist.training.synchronous import SynchronousKind, step_loop

OWN_KINDS = ("uint8", "int8", "int16", "int32")


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes CPUs for GPUs; tells for each program how its steps came by their rows."""
    devices = lambda strategy: tuple(strategy.extended.worker_devices)  # noqa: E731
    monkeypatch.setattr(own_gpus, "of_replicas", devices)
    ways: list[str] = []

    def noting(way: str, function: Any) -> Any:
        def noted(*args: Any) -> Any:
            ways.append(way)
            return function(*args)

        return noted

    monkeypatch.setattr(resident, "rows_of", noting("there", resident.rows_of))
    monkeypatch.setattr(step_loop, "_sent", noting("sent", step_loop._sent))
    return ways


def test_arrays_lie_there_and_their_order_and_weights_are_kept(asked: list[str]) -> None:
    def use(model: keras.Model) -> Any:
        held_out = (X[:40], LABELS[:40], WEIGHTS[:40])
        fit = model.fit(X, LABELS, sample_weight=WEIGHTS, validation_data=held_out, **FIT)
        return fit.history, model.evaluate(X, LABELS, batch_size=50, verbose=0)

    same(classifier, use, on=(2, 3))
    assert set(asked) == {"there"}


def test_named_inputs_and_outputs(asked: list[str]) -> None:
    same(two_in_two_out, lambda model: model.fit(TWO_IN, TWO_OUT, **FIT).history)
    assert set(asked) == {"there"}


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_types_that_no_gpu_gathers_come_back_as_what_they_are(kind: str, asked: list[str]) -> None:
    info = np.iinfo(np.dtype(kind))
    every = np.linspace(info.min, info.max, 257).astype(kind)
    (held,) = resident.put_on(["CPU:0"], (tf.constant(every), None), None)
    numbers = tf.constant(np.arange(257)[::-1].copy())
    zero = tf.zeros(())
    step = Step(((numbers),), zero, zero, zero, zero, zero)
    rows, absent = resident.rows_of(step, (held,), ["CPU:0"]).parts[0]
    assert absent is None
    assert rows.dtype.name == kind
    np.testing.assert_array_equal(rows, every[::-1])


@pytest.mark.parametrize("jit", [False, True])
def test_one_device_draws_keras_order(jit: bool, asked: list[str]) -> None:
    """Shuffled arrays: the bits of the same program whose batches come from the host."""

    def use(model: keras.Model) -> Any:
        return model.fit(X, LABELS, shuffle=True, **FIT).history

    def make() -> keras.Model:
        return classifier(jit_compile=jit)

    there = on_strategy(alone(), make, use)
    assert set(asked) == {"there"}
    asked.clear()
    from_host = on_strategy(alone(), make, use, data_on_device=False)
    assert set(asked) == {"sent"}
    plain = in_plain_keras(make, use)
    assert there.result == from_host.result == plain.result
    for one, other in zip(there.weights, from_host.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_batches_of_a_dataset_are_sent_ahead_none_is_lost(asked: list[str]) -> None:
    """Also where steps_per_epoch cuts the stream, and it goes on in the next epoch."""

    def use(model: keras.Model) -> Any:
        data = tf.data.Dataset.from_tensor_slices((X, LABELS)).shuffle(50, seed=1).batch(10)
        first = model.fit(data, epochs=2, verbose=0).history
        second = model.fit(data.repeat(), epochs=3, steps_per_epoch=7, verbose=0).history
        return first, second

    same(classifier, use, on=(2, 3))
    assert set(asked) == {"sent"}


def test_ragged_rows_and_absent_weights_travel_too(asked: list[str]) -> None:
    """Their parts travel one by one; Keras' stand-ins for what is absent stay with the host."""
    ragged = tf.RaggedTensor.from_row_lengths(np.arange(231) % 20, np.arange(1, 22))
    data = tf.data.Dataset.from_tensor_slices((ragged, LABELS[:21])).batch(6)

    class Sums(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, rows: Any) -> Any:
            return self.dense(tf.cast(tf.reduce_sum(rows, axis=1), tf.float32)[:, None] / 100)

    def make() -> keras.Model:
        model = Sums()
        model.build((None, None))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    same(make, lambda model: model.fit(data, epochs=2, verbose=0).history, on=(2,))
    assert set(asked) == {"sent"}


def test_steps_that_run_eagerly_find_their_rows(asked: list[str]) -> None:
    same(lambda: classifier(run_eagerly=True), lambda model: model.fit(X, LABELS, **FIT).history)
    assert set(asked) == {"there"}


def test_two_fits_on_other_arrays_do_not_share_them(asked: list[str]) -> None:
    """The program of the first `fit` is used again: it must take the arrays of the second."""

    def use(model: keras.Model) -> Any:
        first = model.fit(X, LABELS, shuffle=False, **FIT).history
        return first, model.fit(-X[:64], LABELS[:64], shuffle=False, **FIT).history

    same(classifier, use, on=(2,))


def test_a_fit_goes_on_in_the_middle_of_an_epoch(tmp_path: Path, asked: list[str]) -> None:
    """With the bits of one that was not cut, saved while a batch is on its way."""
    state = [w.copy() for w in _trained(tmp_path / "whole", None)]
    _trained(tmp_path / "cut", 11)
    for one, other in zip(state, _trained(tmp_path / "cut", None), strict=True):
        np.testing.assert_array_equal(one, other)


def test_steps_take_their_rows_by_number_from_the_host_too(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fit does that goes on without the GPUs that it began on."""
    monkeypatch.setattr(own_gpus, "of_replicas", lambda strategy: ())
    there = lambda kind, strategy, options: strategy.extended.worker_devices  # noqa: E731
    monkeypatch.setattr(SynchronousKind, "gpus", there)
    same(classifier, lambda model: model.fit(X, LABELS, **FIT).history)
    assert set(asked) == {"there"}


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("on_gpus", [True, False])
def test_a_position_is_read_as_what_it_is_where_arrays_lie_elsewhere(
    on_gpus: bool, replicas: int
) -> None:
    """The checkpoint's iterator has rows in its buffers, or their numbers: no row is lost."""
    x = np.arange(64)[:, None] + 1000

    def stream(there: bool) -> GlobalBatches:
        layout = ReplicaLayout(replicas=replicas, local=replicas)
        gpus = ["CPU:0"] * replicas if there else ()
        data = GlobalBatches(layout, x, batch_size=8, shuffle=True, gpus=gpus)
        data.__dict__["draws_anew"] = True  # as without any seed
        return data

    def rows(data: GlobalBatches, steps: int) -> list[int]:
        found: list[int] = []
        for step in itertools.islice(data.iterator, steps):
            if data.on_devices:
                step = resident.rows_of(step, data.on_devices, ["CPU:0"] * replicas)
            for part in tf.nest.flatten(step.parts):
                found += np.ravel(part).tolist()
        return found

    first = stream(on_gpus)
    first.begin_epoch(lambda numbers: np.asarray([numbers]))
    seen = rows(first, 3)
    first.took(3)
    second = stream(not on_gpus)
    second.go_to(first.position(3))
    assert sorted(seen + rows(second, 8)) == x.ravel().tolist()


def _trained(folder: Path, stop: int | None) -> list[np.ndarray]:
    """Weights of a training of 3 epochs of 7 steps, or cut after so many steps."""

    class Cut(keras.callbacks.Callback):
        seen = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            Cut.seen += 1
            if stop is not None and Cut.seen == stop:
                raise KeyboardInterrupt

    keras.utils.set_random_seed(3)
    with mirrored(2).scope():
        model = classifier()
    tfdist.plug(model)
    keep = tfdist.callbacks.Checkpoint(folder, every_steps=1)
    try:
        model.fit(X, LABELS, batch_size=15, epochs=3, verbose=0, callbacks=[keep, Cut()])
    except KeyboardInterrupt:
        assert stop is not None
    return [w.numpy() for w in model.weights]


def test_what_cannot_lie_there_is_refused_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fit(data: Any, **options: Any) -> None:
        with mirrored(2).scope():
            model = regressor()
        tfdist.plug(model, **options).fit(*data, verbose=0)

    dataset = tf.data.Dataset.from_tensor_slices((X, X[:, :2])).batch(15)
    with pytest.raises(DataError, match="the data are no arrays: batches of a dataset travel"):
        fit([dataset], data_on_device=True)
    monkeypatch.setattr(own_gpus, "of_replicas", lambda strategy: ())
    with pytest.raises(DataError, match="no replica of this process computes on a GPU"):
        fit([X, X[:, :2]], data_on_device=True)
    with pytest.raises(PlugError, match="data_on_device='yes': give True, False or None"):
        fit([X, X[:, :2]], data_on_device="yes")


def test_arrays_over_the_limit_stay_with_the_host(
    monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    size = X.nbytes + LABELS.nbytes
    for most, way in ((size, "there"), (size - 1, "sent")):
        monkeypatch.setattr(resident, "MOST_BYTES", most)
        asked.clear()
        with mirrored(2).scope():
            model = classifier()
        tfdist.plug(model).fit(X, LABELS, **FIT)
        assert set(asked) == {way}
    assert not resident.put_on(["CPU:0"], (tf.constant(TOKENS.astype(str)),), None)


def batches() -> Iterator[Any]:
    for low in range(0, len(X), 15):
        yield X[low : low + 15], LABELS[low : low + 15]


def test_a_generator_that_nobody_has_counted_is_taken_as_before(asked: list[str]) -> None:
    same(classifier, lambda model: model.fit(batches(), verbose=0).history, miscounted=True)
    assert asked == []
