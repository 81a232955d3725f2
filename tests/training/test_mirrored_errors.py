"""What cannot be trained is one clear error, before anything is trained."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfdist
from tests.training.comparing import mirrored
from tests.training.models import FIT, LABELS, TARGETS, X, classifier, regressor
from tfdist.errors import DataError, PlugError, StrategyError


def plugged(**compile_: Any) -> keras.Model:
    with mirrored(2).scope():
        return tfdist.plug(regressor(**compile_))


@pytest.mark.parametrize("what", [42, None, keras.layers.Dense(1), classifier])
def test_what_is_no_model_is_refused(what: Any) -> None:
    with pytest.raises(PlugError, match=r"plug takes a keras\.Model, not "):
        tfdist.plug(what)


def test_weights_made_outside_of_the_scope_are_refused() -> None:
    first = layers.Dense(4)
    first.build((None, 8))
    with mirrored(2).scope():
        model = keras.Sequential([keras.Input((8,)), first, layers.Dense(1)])
    with pytest.raises(PlugError, match=r"built outside of strategy\.scope\(\).*kernel"):
        tfdist.plug(model)


def test_a_model_of_no_scope_is_warned_of_and_one_of_one_device_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    strategy = tfdist.strategy("mirrored", devices=["CPU:0", "CPU:1"])
    with tfdist.strategy("one_device").scope():
        tfdist.plug(regressor())
    assert "made outside" not in capsys.readouterr().err
    tfdist.plug(regressor())
    assert "made outside of strategy.scope()" in capsys.readouterr().err
    del strategy


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, keras.optimizers.Adam])
def test_an_optimizer_made_outside_of_the_scope_is_refused(optimizer: Any) -> None:
    made = optimizer(0.1)
    with mirrored(2).scope():
        model = tfdist.plug(regressor(made))
    with pytest.raises(PlugError, match=r"the optimizer was made outside of strategy\.scope\(\)"):
        model.fit(X, TARGETS, **FIT)


@pytest.mark.parametrize("virtual_replicas", [None, 4])
@pytest.mark.parametrize("make", [lambda: tfdist.strategy("one_device"), lambda: mirrored(1)])
def test_one_replica_trains_with_an_optimizer_made_outside_of_its_scope(
    make: Callable[[], Any], virtual_replicas: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def trained(scope: Any) -> list[Any]:
        keras.utils.set_random_seed(1)
        with scope:
            model = regressor("sgd")
        model.compile(keras.optimizers.Adam(0.01), "mse")
        tfdist.plug(model, virtual_replicas=virtual_replicas).fit(X, TARGETS, **FIT)
        return list(model.get_weights())

    weights = trained(make().scope())
    for one, other in zip(weights, trained(contextlib.nullcontext()), strict=True):
        np.testing.assert_array_equal(one, other)
    assert "replicas of the strategy" not in capsys.readouterr().err


def test_a_metric_made_outside_of_the_scope_is_refused() -> None:
    metric = keras.metrics.AUC(name="area")
    with mirrored(2).scope():
        model = tfdist.plug(regressor(metrics=[metric]))
    with pytest.raises(PlugError, match=r"'area' was made outside of strategy\.scope\(\)"):
        model.fit(X, TARGETS, **FIT)


@pytest.mark.parametrize("reduction", [None, "none"])
def test_a_loss_that_is_not_reduced_is_refused(reduction: Any) -> None:
    with mirrored(2).scope():
        model = tfdist.plug(regressor(loss=keras.losses.MeanSquaredError(reduction=reduction)))
    with pytest.raises(PlugError, match=r"reduction=None.*sum_over_batch_size"):
        model.fit(X, TARGETS, **FIT)


def test_scalars_that_are_not_batched_are_refused() -> None:
    data = tf.data.Dataset.from_tensor_slices((X, LABELS))  # no .batch(...)
    with pytest.raises(DataError, match=r"scalar.*\.batch\("):
        plugged().fit(data, verbose=0)


def test_a_dataset_distributed_by_the_user_is_refused() -> None:
    data = tf.data.Dataset.from_tensor_slices((X, TARGETS)).batch(32)
    model = plugged()
    with pytest.raises(DataError, match="give the dataset itself"):
        model.fit(model.distribute_strategy.experimental_distribute_dataset(data), verbose=0)


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_a_model_that_is_not_compiled_is_told_in_keras_words(method: str) -> None:
    with mirrored(2).scope():
        model = tfdist.plug(keras.Sequential([keras.Input((8,)), layers.Dense(1)]))
    with pytest.raises(ValueError, match=re.escape("You must call `compile()`")):
        getattr(model, method)(X, TARGETS)


def test_a_strategy_that_is_not_synchronous_is_refused() -> None:
    class Other(tf.distribute.OneDeviceStrategy):
        @property
        def num_replicas_in_sync(self) -> int:
            return 2

    with Other("/CPU:0").scope():
        model = regressor()
    with pytest.raises(StrategyError, match="does not train on Other"):
        tfdist.plug(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X, "y": LABELS[:50]}, "cardinality"),
        ({"x": X, "y": LABELS, "class_weight": {0: 1.0}, "sample_weight": X[:, 0]}, "class_weight"),
        ({"x": tf.data.Dataset.from_tensors((X, LABELS)), "y": LABELS}, "y"),
    ],
    ids=["lengths", "two weights", "y with a dataset"],
)
def test_keras_own_complaints_come_through(arguments: dict[str, Any], message: str) -> None:
    with mirrored(2).scope():
        model = tfdist.plug(classifier())
    with pytest.raises(ValueError, match=message):
        model.fit(**arguments, verbose=0)


def test_unknown_arguments_are_refused_as_in_keras() -> None:
    model = plugged()
    with pytest.raises(TypeError, match="epoch"):
        model.fit(X, TARGETS, epoch=3)
    with pytest.raises(ValueError, match="Arguments not recognized"):
        model.evaluate(X, TARGETS, foo=1)


def test_a_train_step_that_returns_no_dict_is_refused() -> None:
    class Bare(keras.Sequential):
        def train_step(self, data: Any) -> Any:
            return keras.ops.mean(self(data[0]))

    with mirrored(2).scope():
        model = Bare([keras.Input((8,)), layers.Dense(1)])
        model.compile("sgd")
    with pytest.raises(PlugError, match=r"train_step returned .*dict"):
        tfdist.plug(model).fit(X, TARGETS, **FIT)


def test_a_wrong_shape_is_told_in_keras_words_and_leaves_the_model_usable() -> None:
    model = plugged()
    with pytest.raises(ValueError, match="shape"):
        model.fit(np.ones((10, 5), "float32"), TARGETS[:10], **FIT)
    assert model.fit(X, TARGETS, **FIT).history["loss"]


def test_a_wrong_loss_leaves_keras_as_it_was() -> None:
    def broken(y: Any, predicted: Any) -> Any:
        raise LookupError("broken")

    with mirrored(2).scope():
        model = tfdist.plug(regressor(loss=broken))
    with pytest.raises(LookupError, match="broken"):
        model.fit(X, TARGETS, **FIT)
