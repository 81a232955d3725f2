"""Models whose classes or functions share a name are refused, where their file would swap them."""

from __future__ import annotations

import io
from typing import Any

import keras
import numpy as np
import pytest

from tfdist.functions.pickling import Unpackable, pack, unpack

ONE = np.ones((1, 1), "float32")


def scaling(by: int) -> type[keras.Layer]:
    class Scale(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            pass

        def call(self, x: Any) -> Any:
            return x * by

    return Scale


def function(name: str, by: int) -> Any:
    def own(x: Any, y: Any = 0.0) -> Any:
        return x * by - y

    own.__name__ = name
    return own


def model(*layers: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((1,)), *layers])


def again(one: keras.Model) -> float:
    """What it gives for 1 after it has travelled."""
    file = io.BytesIO()
    pack(one, file, "there", "train")
    file.seek(0)
    return float(unpack(file)(ONE)[0, 0])


def dense(activation: Any) -> keras.Layer:
    return keras.layers.Dense(1, activation=activation, kernel_initializer="ones")


def test_two_classes_or_functions_of_one_name_are_refused() -> None:
    first, second = scaling(2), scaling(10)
    with pytest.raises(Unpackable) as caught:
        again(model(first(), second()))
    where = f"{__name__}.scaling.<locals>.Scale"
    assert str(caught.value) == (
        f"train holds a Keras model with two different classes of the name 'Scale', {where} and "
        f"{where}, which its file cannot tell apart: give each a __name__ of its own"
    )
    with pytest.raises(Unpackable, match="two different functions of the name 'f'"):
        again(model(dense(function("f", 2)), dense(function("f", 3))))
    second.__name__ = "Tenfold"
    assert again(model(first(), second(), first())) == 40


def test_a_function_with_the_name_of_one_of_keras_is_refused() -> None:
    with pytest.raises(Unpackable, match=r"own and keras.* give each a __name__ of its own"):
        again(model(dense(function("relu", 100))))
    own = model(dense(None))
    own.compile(loss="mse", metrics=[keras.metrics.mean_squared_error])
    assert again(own) == 1
    own.compile(loss=keras.losses.mean_squared_error, metrics=[function("mean_squared_error", 0)])
    with pytest.raises(Unpackable, match="of the name 'mean_squared_error'"):
        again(own)


def test_what_the_file_tells_apart_travels() -> None:
    one = keras.saving.register_keras_serializable("one")(scaling(3))
    other = keras.saving.register_keras_serializable("other")(scaling(5))
    assert again(model(one(), other())) == 15
    relu = keras.saving.register_keras_serializable("one")(function("relu", 100))
    assert again(model(dense(relu))) == 100
    lambdas = [keras.layers.Lambda(lambda x: x * 2), keras.layers.Lambda(lambda x: x + 5)]
    assert again(model(*lambdas)) == 7
