"""What a probe times by itself, on a real model."""

from __future__ import annotations

import time
import types
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


def test_updates_are_made_and_those_of_tables_can_be_left_out() -> None:
    model = recommender()
    before = model.get_weights()
    rows = {model.layers[0].embeddings.path: 128}
    every = probed_seconds.update_seconds(family_of(model), rows, dense=False)
    counted = int(model.optimizer.iterations)
    assert counted == 2 + 5 * 3
    dense = probed_seconds.update_seconds(family_of(model), rows, dense=True)
    assert int(model.optimizer.iterations) == 2 * counted
    assert 0 < dense < every  # Adam writes all 100,000 rows
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_of_several_workers_nothing_is_timed() -> None:
    family = family_of(recommender(), workers=2)
    assert probed_seconds.update_seconds(family, {}, dense=False) == 0.0
    assert probed_seconds.seconds_a_row(family, lambda: None, lambda: None, 10) == 0.0


def test_a_row_takes_what_more_rows_take_over_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    family = family_of(recommender())
    times = iter([0.0, 0.1, 0.1, 0.4] * 5)  # few take 0.1 s, all take 0.3 s
    with monkeypatch.context() as patched:
        patched.setattr(time, "perf_counter", lambda: next(times))
        found = probed_seconds.seconds_a_row(family, lambda: None, lambda: None, 100)
    assert found == pytest.approx(0.002)
    assert next(times, None) is None
