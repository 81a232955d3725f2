"""Options, layers and metrics that meet: as one process, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfdist
from tests.training.comparing import mirrored
from tests.training.test_resuming_in_an_epoch import Interrupt, Interrupted
from tfdist.errors import PlugError

X = np.random.default_rng(0).normal(size=(64, 32)).astype("float32")
FIT: dict[str, Any] = {"batch_size": 64, "epochs": 2, "verbose": 0}


def histories(make: Any, *data: Any, **options: Any) -> list[dict[str, list[float]]]:
    """Of two replicas, or of virtual ones, and of plain Keras."""
    found = []
    strategy = tfdist.strategy("one_device") if "virtual_replicas" in options else mirrored(2)
    for plugged in (True, False):
        keras.utils.set_random_seed(1)
        if plugged:
            with strategy.scope():
                model = make()
            tfdist.plug(model, **options)
        else:
            model = make()
        found.append(model.fit(*data, **FIT).history)
    return found


def _assert_same(found: list[dict[str, list[float]]], rtol: float = 1e-5) -> None:
    assert found[0].keys() == found[1].keys()
    for name, values in found[1].items():
        np.testing.assert_allclose(found[0][name], values, rtol=rtol)


@pytest.mark.parametrize("width", [32, 24])
def test_dropout_of_rows_that_look_like_a_weight(width: int) -> None:
    """Eagerly, 32 rows of a replica have the shape of the kernel."""

    def make() -> keras.Model:
        dense, dropout = layers.Dense(width), layers.Dropout(0.5, seed=1)
        model = keras.Sequential([keras.Input((32,)), dense, dropout, layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    _assert_same(histories(make, X, X[:, :1]))


def test_gradients_of_embeddings_are_clipped_in_shares_of_virtual_replicas() -> None:
    ids = np.random.default_rng(0).integers(0, 20, (64, 5))

    def make() -> keras.Model:
        table = layers.Embedding(20, 4)
        model = keras.Sequential(
            [keras.Input((5,), dtype="int32"), table, layers.Flatten(), layers.Dense(1)]
        )
        model.compile(keras.optimizers.Adam(0.1, global_clipnorm=0.2), "mse")
        return model

    options = {"virtual_replicas": 4, "shard_optimizer": True}
    _assert_same(histories(make, ids, ids[:, :1] * 0.1, **options))


class Counts(keras.metrics.Metric):
    """Gives two numbers by name, of which one is its own variable."""

    def __init__(self) -> None:
        super().__init__(name="counts")
        self.rows = self.add_weight(shape=(), initializer="zeros", name="rows")
        self.errors = self.add_weight(shape=(), initializer="zeros", name="errors")

    def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
        self.rows.assign_add(keras.ops.sum(keras.ops.ones_like(y)))
        self.errors.assign_add(keras.ops.sum(keras.ops.abs(y - predicted)))

    def result(self) -> Any:
        return {"rows": self.rows, "error": self.errors / self.rows}


def test_a_metric_may_give_its_variables_by_name() -> None:
    def make() -> keras.Model:
        model = keras.Sequential([keras.Input((32,)), layers.Dense(1)])
        model.compile("sgd", "mse", metrics=[Counts()])
        return model

    found = histories(make, X, X[:, :1])
    _assert_same(found)
    assert found[0]["rows"] == [64.0, 64.0]


def test_counts_of_doubles_go_on_with_other_replicas(tmp_path: Path) -> None:
    def run(replicas: int, *interrupt: Any) -> Any:
        keras.utils.set_random_seed(3)
        with mirrored(replicas).scope():
            model = keras.Sequential([keras.Input((32,)), layers.Dense(1)])
            model.compile("sgd", "mse", metrics=["mae"])
        kept = tfdist.callbacks.Checkpoint(tmp_path, every_steps=1)
        tfdist.plug(model)
        settings = {**FIT, "batch_size": 16, "shuffle": False}
        return model.fit(X, X[:, :1], callbacks=[kept, *interrupt], **settings).history

    keras.config.set_floatx("float64")
    try:
        with pytest.raises(Interrupted):
            run(2, Interrupt(1, 1))
        resumed = run(3)
        for file in tmp_path.iterdir():
            file.unlink()
        undisturbed = run(2)
    finally:
        keras.config.set_floatx("float32")
    _assert_same([resumed, undisturbed], rtol=1e-7)


def test_what_xla_cannot_exchange_is_refused() -> None:
    def make() -> keras.Model:
        normalization = layers.BatchNormalization(synchronized=True)
        model = keras.Sequential([keras.Input((32,)), normalization, layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=True)
        return model

    with pytest.raises(PlugError, match="jit_compile=True with batch_normalization"):
        histories(make, X, X[:, :1])
