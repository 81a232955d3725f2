"""What a probe times by itself, on a real model."""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pytest
import tensorflow as tf

from tfdist.planning import probed_seconds


def family_of(model: keras.Model, workers: int = 1) -> Any:
    layout = types.SimpleNamespace(workers=workers)
    return types.SimpleNamespace(model=model, strategy=tf.distribute.get_strategy(), layout=layout)


def recommender() -> keras.Model:
    table = keras.layers.Embedding(100_000, 32)
    model = keras.Sequential(
        [keras.Input((4,), dtype="int32"), table, keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def takes(seconds: float) -> Callable[[], None]:
    """A step of so many seconds, in a program as those of a model are."""

    @tf.function(autograph=False)
    def step() -> None:
        tf.numpy_function(lambda: time.sleep(seconds), [], [])

    step()
    return step


@pytest.fixture
def ahead() -> Iterator[None]:
    """Calls are back before their operations have ended, as it is with those of a GPU."""
    tf.config.experimental.set_synchronous_execution(False)
    yield
    tf.config.experimental.set_synchronous_execution(True)


def test_updates_are_made_and_those_of_tables_can_be_left_out() -> None:
    model = recommender()
    before = model.get_weights()
    rows = {model.layers[0].embeddings.path: 128}
    family, step = family_of(model), takes(0.3)
    every = probed_seconds.update_part(family, step, rows, dense=False)
    counted = int(model.optimizer.iterations)
    assert counted == 2 + 5 * 3
    dense = probed_seconds.update_part(family, step, rows, dense=True)
    assert int(model.optimizer.iterations) == 2 * counted
    assert 0 < dense < every <= 1  # Adam writes all 100,000 rows
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_an_update_is_no_more_than_the_step_of_which_it_is_a_part() -> None:
    family = family_of(recommender())
    assert probed_seconds.update_part(family, lambda: None, {}, dense=False) == 1.0


def test_of_several_workers_nothing_is_timed() -> None:
    family = family_of(recommender(), workers=2)
    assert probed_seconds.update_part(family, lambda: None, {}, dense=False) == 0.0
    assert probed_seconds.growing_part(family, lambda: None, lambda: None, 0.9) == 0.0


@pytest.mark.parametrize("busy", [1, 100])
def test_what_grows_is_a_part_of_the_step_however_busy_the_machine(
    busy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = family_of(recommender())
    # few take 0.1 s, all take 0.4 s; a machine that gets busy meanwhile has both take longer
    pairs = [[0.0, 0.1 * n, 0.1 * n, 0.5 * n] for n in (1, 1, busy, busy, busy)]
    times = iter([one for pair in pairs for one in pair])
    with monkeypatch.context() as patched:
        patched.setattr(time, "perf_counter", lambda: next(times))
        found = probed_seconds.growing_part(family, lambda: None, lambda: None, 0.9)
    assert found == pytest.approx(0.75 / 0.9)
    assert next(times, None) is None


@pytest.mark.usefixtures("ahead")
def test_a_step_has_ended_before_the_next_one_is_timed() -> None:
    family = family_of(recommender())
    found = probed_seconds.growing_part(family, takes(0.0), takes(0.5), 1.0)
    assert found > 0.6  # launching takes as long for no rows as for all
