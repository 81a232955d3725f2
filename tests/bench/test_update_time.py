"""The optimizer's part of a step, timed by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import pytest
import tensorflow as tf

from tfdist.bench import update_time
from tfdist.bench.update_time import update_seconds

WEIGHTS = [tf.zeros([64, 64]), tf.zeros([64])]


class Seen(keras.optimizers.SGD):
    """Says what it has updated."""

    shapes: list[tuple[int, ...]] = []  # noqa: RUF012 - of all of them

    def build(self, variables: list[keras.Variable]) -> None:
        Seen.shapes += [tuple(variable.shape) for variable in variables]
        super().build(variables)


class NotAgain(keras.optimizers.SGD):
    """Cannot be made from its settings, which do not hold all that it needs."""

    def __init__(self, needed: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.needed = needed


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    Seen.shapes.clear()
    yield
    Seen.shapes.clear()


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10), clipnorm=1.0),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(momentum=0.9)),
    ],
    ids=["adam", "loss_scale"],
)
def test_an_optimizer_takes_its_time(optimizer: keras.optimizers.Optimizer) -> None:
    assert 0 < update_seconds(optimizer, WEIGHTS) < 10
    assert not optimizer.built  # the model's own one is left alone


def test_all_weights_are_updated() -> None:
    assert update_seconds(Seen(0.1), WEIGHTS) > 0
    assert Seen.shapes == [(64, 64), (64,)]


def test_of_more_weights_as_many_as_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_time, "MOST", 4096)
    assert update_seconds(Seen(0.1), WEIGHTS) > 0
    assert Seen.shapes == [(1024,)]


def test_no_strategy_mirrors_the_weights() -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        assert update_seconds(keras.optimizers.SGD(0.1), WEIGHTS) > 0


def test_what_cannot_be_timed_takes_no_time() -> None:
    assert update_seconds(None, WEIGHTS) == 0
    assert update_seconds(keras.optimizers.SGD(), []) == 0
    assert update_seconds(NotAgain(3), WEIGHTS) == 0
