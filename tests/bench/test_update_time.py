"""The optimizer's part of a step, timed by itself."""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pytest
import tensorflow as tf

from tfdist.bench import update_time, worker
from tfdist.bench.update_time import update_seconds

WEIGHTS = [tf.TensorSpec([64, 64]), tf.TensorSpec([64])]


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


class Raises(keras.optimizers.SGD):
    """Fails where it is asked for."""

    def __init__(self, where: str = "", **settings: Any) -> None:
        super().__init__(learning_rate=0.1)
        self.where = where

    def get_config(self) -> dict[str, Any]:
        return {"where": self.where}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Raises:
        if config["where"] == "from_config":
            return cls(config["rate"])
        return cls(**config)

    def build(self, variables: list[keras.Variable]) -> None:
        if self.where == "build":
            raise AttributeError
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.where == "update_step":
            raise RuntimeError("no rule\nfor this")
        super().update_step(gradient, variable, learning_rate)


class Slow(keras.optimizers.SGD):
    """Takes its time, which a call that only begins it does not."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        def wait(value: Any) -> Any:
            time.sleep(0.02)
            return value

        slow = tf.numpy_function(wait, [tf.convert_to_tensor(gradient)], tf.float32)
        super().update_step(tf.ensure_shape(slow, gradient.shape), variable, learning_rate)


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    Seen.shapes.clear()
    yield
    Seen.shapes.clear()


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.1, 10), clipnorm=1.0
        ),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(momentum=0.9)),
    ],
    ids=["adam", "loss_scale"],
)
def test_an_optimizer_takes_its_time(make: Callable[[], keras.optimizers.Optimizer]) -> None:
    optimizer = make()
    seconds, untimed = update_seconds(optimizer, WEIGHTS)
    assert (0 < seconds < 10, untimed) == (True, "")
    assert not optimizer.built  # the model's own one is left alone


def test_all_weights_are_updated() -> None:
    assert update_seconds(Seen(0.1), WEIGHTS)[0] > 0
    assert Seen.shapes == [(64, 64), (64,)]


def test_of_more_weights_as_many_as_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_time, "MOST", 4096)
    assert update_seconds(Seen(0.1), WEIGHTS)[0] > 0
    assert Seen.shapes == [(1024,)]


def test_no_strategy_mirrors_the_weights() -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        assert update_seconds(keras.optimizers.SGD(0.1), WEIGHTS)[0] > 0


def test_what_is_not_there_takes_no_time() -> None:
    assert update_seconds(None, WEIGHTS) == (0, "")
    assert update_seconds(keras.optimizers.SGD(), []) == (0, "")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: NotAgain(3), "NotAgain: TypeError: "),
        (lambda: Raises("from_config"), "Raises: KeyError: 'rate'"),
        (lambda: Raises("build"), "Raises: AttributeError: it says nothing"),
        (lambda: Raises("update_step"), "Raises: RuntimeError: no rule"),
    ],
    ids=["settings", "from_config", "build", "update_step"],
)
def test_whatever_fails_is_told_and_loses_nothing(make: Callable[[], Any], why: str) -> None:
    optimizer = make()
    seconds, said = update_seconds(optimizer, WEIGHTS)
    assert seconds == 0
    assert said.startswith(why)
    assert "\n" not in said
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    assert worker._time_update(model) == (0, said)


def test_the_end_is_timed_and_not_the_start() -> None:
    # As on a GPU: a call returns before its work is done.
    with tf.experimental.async_scope():
        assert update_time._timed(Slow(0.1), WEIGHTS[1:]) >= 0.02


def test_sums_are_timed_to_their_end() -> None:
    def run(replica: Any) -> Any:
        def wait(value: Any) -> Any:
            time.sleep(0.02)
            return value

        found = strategy.run(replica)
        return tf.ensure_shape(tf.numpy_function(wait, [found], tf.float32), found.shape)

    strategy = tf.distribute.get_strategy()
    slow = types.SimpleNamespace(
        run=run, experimental_local_results=strategy.experimental_local_results
    )
    family: Any = types.SimpleNamespace(strategy=slow, layout=types.SimpleNamespace(replicas=2))
    values = [tf.zeros([3, 2]), tf.zeros([], tf.bfloat16), tf.zeros([0])]
    with tf.experimental.async_scope():
        assert worker._time_all_reduce(family, values) >= 0.02
