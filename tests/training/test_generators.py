"""Whoever reads a Python generator, and how often: all get what one loop of `next` would give."""

from __future__ import annotations

import functools
import gc
import itertools
import time
import weakref
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tests.training.comparing import mirrored
from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.data.global_batches import GlobalBatches

ALONE = ReplicaLayout(1, 0, 1, 0, 1, "worker")
FIRST_OF_TWO = ReplicaLayout(2, 0, 1, 0, 2, "worker")


def numbered(end: int | None = None) -> Iterator[Any]:
    """Batches of which each target is the batch's number."""
    for number in itertools.count() if end is None else range(end):
        yield np.ones((4, 2), "float32"), np.full((4, 1), number, "float32")


def all_gather(workers: int, numbers: Any) -> np.ndarray:
    return np.asarray([numbers] * workers, np.float64)


class Pass:
    """Takes steps as `fit` does, and as long as one takes there."""

    def __init__(self, data: GlobalBatches) -> None:
        self.data = data
        self.all_gather = functools.partial(all_gather, data.layout.workers)

    def begin(self) -> None:
        self.data.rewind()
        self.data.begin_epoch(self.all_gather)

    def take(self, count: int) -> list[int]:
        steps = self.data.take(count, self.all_gather)
        time.sleep(0.05)  # the next ones are read meanwhile
        return [int(step.parts[0][1][0, 0]) for step in steps]

    def whole(self, count: int) -> list[int]:
        self.begin()
        found = [*self.take(count - 1), *self.take(1)]
        self.data.end_epoch()
        return found


def over(generator: Iterator[Any], steps: int | None, layout: ReplicaLayout = ALONE) -> Pass:
    return Pass(GlobalBatches(layout, generator, steps=steps))


@pytest.mark.parametrize("layout", [ALONE, FIRST_OF_TWO], ids=["alone", "two workers"])
def test_passes_of_one_stream_go_on_where_the_last_one_stopped(layout: ReplicaLayout) -> None:
    validation = over(numbered(), 5, layout)
    assert [validation.whole(5) for _ in range(4)] == np.arange(20).reshape(4, 5).tolist()


def test_streams_over_one_generator_go_on_where_the_last_one_stopped() -> None:
    generator = numbered()
    assert [over(generator, 3).whole(3) for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_two_streams_may_take_turns() -> None:
    """As where training and validation share a generator, even in the middle of an epoch."""
    generator = numbered()
    training, validation = over(generator, 6), over(generator, 2)
    training.begin()
    assert training.take(3) == [0, 1, 2]
    assert validation.whole(2) == [3, 4]
    assert training.take(3) == [5, 6, 7]
    assert validation.whole(2) == [8, 9]
    assert over(generator, 2).whole(2) == [10, 11]


def test_a_pass_that_stops_early_leaves_the_rest() -> None:
    generator = numbered()
    training = over(generator, 8)
    training.begin()
    assert training.take(2) == [0, 1]
    training.data.end_epoch()
    assert training.whole(2) == [2, 3]


def test_nothing_is_left_of_a_generator_that_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    training = over(numbered(7), 3)
    assert training.whole(3) == [0, 1, 2]
    assert training.whole(3) == [3, 4, 5]
    training.begin()
    assert training.take(3) == [6]
    assert training.data.ended
    training.data.ran_out()
    assert "another pass over it finds nothing" not in caplog.text
    training.begin()
    assert training.take(3) == []
    assert "another pass over it finds nothing" in caplog.text


def test_an_error_comes_where_the_generator_raises_it() -> None:
    def failing() -> Iterator[Any]:
        yield from numbered(4)
        raise KeyError("a file is missing")

    generator = failing()
    assert over(generator, 3).whole(3) == [0, 1, 2]
    last = over(generator, 3)
    last.begin()
    assert last.take(1) == [3]
    with pytest.raises(tf.errors.OpError, match="a file is missing"):
        last.take(1)
    with pytest.raises(KeyError, match="a file is missing"):
        over(generator, 3)


def test_another_run_goes_on_where_a_stream_stood() -> None:
    def streams() -> tuple[Pass, Pass]:
        generator = numbered()
        return over(generator, 4), over(generator, 2)

    training, validation = streams()
    training.begin()
    assert [*training.take(4), *validation.whole(2), *training.take(3)] == list(range(9))
    there = training.data.position(3), validation.data.position(0)
    assert [*training.take(1), *validation.whole(2)] == [9, 10, 11]
    for stream, position in zip(again := streams(), there, strict=True):
        stream.data.go_to(position)
    assert [*again[0].take(1), *again[1].whole(2)] == [9, 10, 11]


def test_a_generator_that_draws_from_numpy_draws_the_same_again() -> None:
    def drawn() -> Iterator[Any]:
        while True:
            yield np.ones((4, 2), "float32"), np.random.randint(1 << 20, size=(4, 1))

    def stream() -> Pass:
        np.random.seed(3)
        return over(drawn(), 4)

    whole = stream()
    took = [whole.whole(4) for _ in range(3)]
    parts = stream()
    assert [parts.whole(4) for _ in range(2)] == took[:2]
    there = parts.data.position(0)
    again = stream()
    np.random.seed(4)
    again.data.go_to(there)
    assert again.whole(4) == took[2]


def test_a_generator_is_let_go() -> None:
    generator = numbered()
    training = over(generator, 3)
    assert training.whole(3) == [0, 1, 2]
    gone = weakref.ref(generator)
    del generator, training
    deadline = time.monotonic() + 10
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    assert gone() is None


def test_fit_evaluate_and_predict_go_on_one_after_the_other() -> None:
    """Every step's loss is the square of its batch's number; predict returns what it reads."""
    strategy = mirrored(2)
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, trainable=False)])
        model.layers[0].set_weights([np.zeros((2, 1)), np.zeros(1)])
        model.compile(keras.optimizers.SGD(0.0), "mse")
    tfdist.plug(model)
    generator, validation = numbered(), numbered()

    def squares(first: int, steps: int) -> float:
        return float(np.mean([i**2 for i in range(first, first + steps)]))

    history = model.fit(
        generator,
        steps_per_epoch=6,
        epochs=3,
        validation_data=validation,
        validation_steps=4,
        verbose=0,
    ).history
    np.testing.assert_allclose(history["loss"], [squares(6 * i, 6) for i in range(3)])
    np.testing.assert_allclose(history["val_loss"], [squares(4 * i, 4) for i in range(3)])
    for i in range(3):
        loss = model.evaluate(generator, steps=2, verbose=0)
        np.testing.assert_allclose(loss, squares(18 + 2 * i, 2))
    assert model.predict(generator, steps=3, verbose=0).shape == (12, 1)
    history = model.fit(generator, steps_per_epoch=5, verbose=0).history
    np.testing.assert_allclose(history["loss"], [squares(27, 5)])


@pytest.mark.parametrize("replicas", [1, 2])
def test_predict_begins_with_what_fit_has_left(replicas: int) -> None:
    def batches() -> Iterator[Any]:
        for number in itertools.count():
            yield np.full((4, 2), number, "float32"), np.zeros((4, 1), "float32")

    strategy = mirrored(2) if replicas == 2 else tfdist.strategy("one_device")
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, trainable=False)])
        model.layers[0].set_weights([np.array([[1.0], [0.0]]), np.zeros(1)])
        model.compile(keras.optimizers.SGD(0.0), "mse")
    tfdist.plug(model)
    generator = batches()
    model.fit(generator, steps_per_epoch=5, verbose=0)
    for first in (5, 8):
        found = model.predict(generator, steps=3, verbose=0)
        assert found[::4, 0].tolist() == [first, first + 1, first + 2]
