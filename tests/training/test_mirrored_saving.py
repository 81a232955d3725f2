"""What a plugged model saves is what Keras saves: it loads where tfdist is not installed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfdist
from tests.training import comparing
from tests.training.comparing import same
from tests.training.models import FIT, LABELS, X, classifier


@keras.utils.register_keras_serializable("tfdist_tests")
class Registered(keras.Model):
    """A subclassed model that Keras finds by its registered name."""

    def __init__(self, units: int = 4, **settings: Any) -> None:
        super().__init__(**settings)
        self.units = units
        self.hidden = layers.Dense(units, activation="tanh")
        self.normalize = layers.BatchNormalization(synchronized=True)
        self.out = layers.Dense(3, activation="softmax")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.out(self.normalize(self.hidden(x), training=training))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def registered() -> keras.Model:
    model = Registered()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def train(model: keras.Model) -> Any:
    return model.fit(X, LABELS, **FIT).history


@pytest.fixture(params=[classifier, registered], ids=["sequential", "registered"])
def trained(request: pytest.FixtureRequest) -> keras.Model:
    """A model that three replicas have trained."""
    make: Callable[[], keras.Model] = request.param
    strategy = comparing.mirrored(3)
    with comparing.seeded(), strategy.scope():
        model = make()
    train(tfdist.plug(model))
    return model


def predictions(model: keras.Model) -> np.ndarray:
    return np.asarray(model.predict(X, verbose=0))


def test_a_saved_model_loads_in_plain_keras_and_goes_on_training(
    trained: keras.Model, tmp_path: Path
) -> None:
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(trained)
    np.testing.assert_allclose(predictions(loaded), predictions(trained), rtol=comparing.HISTORY)
    assert loaded.optimizer.iterations.numpy() == 8
    loaded.fit(X, LABELS, **FIT)
    assert loaded.optimizer.iterations.numpy() == 16


def test_a_model_saved_and_loaded_goes_on_as_plain_keras_does(tmp_path: Path) -> None:
    def use(model: keras.Model) -> Any:
        train(model)
        model.save(tmp_path / "half.keras")
        with model.distribute_strategy.scope():
            loaded = keras.models.load_model(tmp_path / "half.keras")
        if tf.distribute.get_strategy() is not model.distribute_strategy:
            tfdist.plug(loaded)
        return train(loaded)

    same(lambda: classifier(keras.optimizers.Adam(0.01)), use, weights=comparing.ADAM_WEIGHTS)


def test_a_file_of_weights_loads_in_plain_keras_and_back(
    trained: keras.Model, tmp_path: Path
) -> None:
    trained.save_weights(tmp_path / "model.weights.h5")
    expected = predictions(trained)
    plain = registered() if isinstance(trained, Registered) else classifier()
    plain(X[:1])
    plain.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(predictions(plain), expected, rtol=comparing.HISTORY)
    train(trained)
    trained.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(predictions(trained), expected, rtol=comparing.HISTORY)
    comparing.check_replicas_agree(trained, comparing.mirrored(3))


def test_an_exported_model_serves(trained: keras.Model, tmp_path: Path) -> None:
    trained.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    served = loaded.serve(X).numpy()
    np.testing.assert_allclose(served, predictions(trained), rtol=comparing.HISTORY)


@pytest.mark.parametrize(
    "remake",
    [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy],
    ids=["pickle", "deepcopy"],
)
def test_a_pickled_or_copied_model_is_a_plain_one(
    trained: keras.Model, remake: Callable[[keras.Model], keras.Model]
) -> None:
    made = remake(trained)
    assert type(made) is type(trained)
    np.testing.assert_allclose(predictions(made), predictions(trained), rtol=comparing.HISTORY)
    made.fit(X, LABELS, **FIT)


def test_a_clone_is_a_plain_model_of_its_own(trained: keras.Model) -> None:
    clone = keras.models.clone_model(trained)
    assert type(clone) is type(trained)
    clone.compile("sgd", "sparse_categorical_crossentropy")
    clone.fit(X, LABELS, **FIT)
    assert trained.optimizer.iterations.numpy() == 8


def test_a_config_says_nothing_of_tfdist(trained: keras.Model) -> None:
    assert "tfdist_plugged" not in str(trained.get_config())
    again = type(trained).from_config(trained.get_config())
    assert type(again) is type(trained)


def test_tensorflow_saves_and_restores_a_checkpoint(trained: keras.Model, tmp_path: Path) -> None:
    path = tf.train.Checkpoint(model=trained, optimizer=trained.optimizer).write(
        str(tmp_path / "at")
    )
    expected = predictions(trained)
    train(trained)
    tf.train.Checkpoint(model=trained, optimizer=trained.optimizer).read(path).assert_consumed()
    np.testing.assert_allclose(predictions(trained), expected, rtol=comparing.HISTORY)
