"""What the epoch loop tells of its steps while it takes them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist.progress import Record, RecordReader, teller


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Record]]:
    """What this process has told, complete when the block of `fit` has ended."""
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    own = teller.Teller(sink, spans=False, seconds=3600)
    monkeypatch.setattr(teller, "teller", lambda: own)
    records: list[Record] = []
    tell = own.tell

    def tell_and_read() -> None:
        tell()
        records.extend(reader.feed(os.read(source, 1 << 16)))

    reader = RecordReader()
    monkeypatch.setattr(own, "tell", tell_and_read)
    yield records
    own.close()
    os.close(source)
    os.close(sink)


def test_the_steps_before_a_stop_are_told(told: list[Record]) -> None:
    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            if batch == 2:
                self.model.stop_training = True

    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    tfdist.plug(model)
    x = np.ones((40, 2), "float32")
    model.fit(x, x[:, :1], batch_size=8, epochs=2, verbose=0, callbacks=[Stops()])
    last = told[-1]
    assert (last.fit, last.epoch, last.epochs, last.step, last.steps) == (1, 0, 2, 3, 5)
    assert (last.phase, last.batch, set(last.logs)) == ("", 8, {"loss"})


def test_numpys_counts_are_told_as_pythons(told: list[Record]) -> None:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    tfdist.plug(model)
    data = tf.data.Dataset.from_tensors((np.ones((4, 2)), np.ones((4, 1)))).repeat()
    model.fit(data, epochs=np.int64(2), steps_per_epoch=np.int64(3), verbose=0)
    assert (told[-1].epochs, told[-1].step, told[-1].steps) == (2, 3, 3)


def test_a_number_that_is_none_ends_the_telling_and_not_the_training(told: list[Record]) -> None:
    own = teller.teller()
    assert own is not None
    own._measure = lambda: int("no number")  # type: ignore[assignment]
    own.tell()
    assert own._measure is None
