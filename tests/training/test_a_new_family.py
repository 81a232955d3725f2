"""A family of strategies is one room and one line: here is a sixth, in a few lines of a test.

Its models take every step twice as one machine would, and predict upside down; it has a home, data,
options and refusals of its own, and nobody else knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist.errors import PlugError
from tfdist.strategies.layout import ReplicaLayout
from tfdist.training import families
from tfdist.training.data.stream import Stream
from tfdist.training.loop.family import FamilyKind
from tfdist.training.loop.prediction import Outputs
from tfdist.training.plug_options import TrainingOptions
from tfdist.training.synchronous.replica_programs import ReplicaPrograms
from tfdist.training.synchronous.synchronous import Synchronous

X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


class Twice(ReplicaPrograms):
    """Every step is taken two times."""

    def one(self, mode: Any, may_be_absent: bool) -> Any:
        once = super().one(mode, may_be_absent)

        def twice(*taken: Any) -> Any:
            with tf.control_dependencies(tf.nest.flatten(once(*taken)) if mode == "train" else []):
                return once(*taken)

        return tf.function(twice, autograph=False)

    def prediction(self, all_gather: Any) -> Any:
        return UpsideDown(super().prediction(all_gather))


class UpsideDown:
    def __init__(self, true: Any) -> None:
        self.true = true

    def chunks(self, data: Any, chunk_length: Any) -> Generator[Outputs, None, None]:
        for run in self.true.chunks(data, chunk_length):

            def turned(run: Outputs = run) -> Any:
                place, count, outputs = run()
                return place, count, -outputs

            yield turned

    def batch(self, step: Any) -> Any:
        return -self.true.batch(step)


class TwiceStrategy(tf.distribute.OneDeviceStrategy):
    pass


class TwiceKind(FamilyKind):
    name = "twice"
    options = ("cache_data",)
    home = "in the other room"

    def has(self, strategy: tf.distribute.Strategy) -> bool:
        return isinstance(strategy, TwiceStrategy)

    def make(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        options: TrainingOptions,
        prepared: Any,
    ) -> Synchronous:
        assert prepared == "swept"
        return Synchronous(model, strategy, layout, options, Twice)

    def prepare(self, model: Any, strategy: Any, options: Any) -> str:
        return "swept"

    def check(self, model: keras.Model, strategy: tf.distribute.Strategy) -> None:
        if isinstance(model.optimizer, keras.optimizers.Adam):
            raise PlugError("no Adam twice")

    def own_data(
        self,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        function: Callable[..., Any],
        steps: int | None,
    ) -> Stream:
        raise PlugError("no data of one's own twice")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    families.FAMILIES.insert(0, TwiceKind())
    yield
    del families.FAMILIES[0]


def model_under(strategy: tf.distribute.Strategy, optimizer: Any, **options: Any) -> keras.Model:
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(optimizer=optimizer, loss="mse")
    return tfdist.plug(model, **options)


def twice(optimizer: Any = "sgd", **options: Any) -> keras.Model:
    return model_under(TwiceStrategy("CPU:0"), optimizer, **options)


def test_its_steps_are_taken_by_the_same_loop() -> None:
    model, plain = twice(), model_under(tfdist.strategy("one_device"), "sgd")
    history = model.fit(X, Y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    for start in list(range(0, 20, 5)) * 2:
        for _ in range(2):
            plain.train_on_batch(X[start : start + 5], Y[start : start + 5])
    assert len(history.epoch) == 2
    assert model.optimizer.iterations.numpy() == 16
    for own, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6)


def test_it_predicts_in_its_own_way_by_the_same_loop() -> None:
    model = twice()
    outputs = model(X).numpy()
    np.testing.assert_allclose(model.predict(X, batch_size=7, verbose=0), -outputs, rtol=1e-6)
    np.testing.assert_allclose(model.predict_on_batch(X), -outputs, rtol=1e-6)


def test_it_refuses_what_it_cannot_do() -> None:
    with pytest.raises(PlugError, match="no Adam twice"):
        twice("adam").fit(X, Y, verbose=0)
    with pytest.raises(PlugError, match="no data of one's own twice"):
        twice().fit(lambda input_context: tf.data.Dataset.from_tensors((X, Y)), verbose=0)
    with pytest.raises(PlugError, match="warm_start means nothing to the twice strategy"):
        twice(warm_start=3)
    twice(cache_data=True)
