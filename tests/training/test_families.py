"""The five families of networks that the examples have: on replicas they are as in plain Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from tests.training.comparing import ADAM_WEIGHTS, same
from tfdist.examples import data, denoise, digits, ratings, recommender, spam, sunspots

ROWS = 145  # the last batch has 17


def factorization_machine() -> keras.Model:
    return recommender.build_model(dimensions=4, mean=3.5)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("build", "load", "loss"),
    [
        (spam.build_model, data.emails, "binary_crossentropy"),
        (digits.build_model, data.digits, "sparse_categorical_crossentropy"),
        (sunspots.build_model, data.sunspots, "mean_squared_error"),
        (denoise.build_model, data.noisy_digits, "mean_squared_error"),
        (factorization_machine, ratings.movielens, "mean_squared_error"),
    ],
    ids=["feed-forward", "convolutional", "recurrent", "autoencoder", "factorization machine"],
)
def test_a_familys_losses_and_weights_are_those_of_one_process(
    build: Callable[[], keras.Model], load: Callable[[], Any], loss: str
) -> None:
    (x, y), (test_x, test_y) = load()
    x, y = np.asarray(x[:ROWS]), np.asarray(y[:ROWS])

    def make() -> keras.Model:
        model = build()
        model.compile(keras.optimizers.Adam(0.003), loss)
        return model

    def use(model: keras.Model) -> Any:
        history = model.fit(x, y, batch_size=32, epochs=2, verbose=0).history
        return history, model.evaluate(test_x[:50], test_y[:50], verbose=0)

    same(make, use, weights=ADAM_WEIGHTS)
