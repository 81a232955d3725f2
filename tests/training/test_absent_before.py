"""A replica that had no examples at the end of one fit counts in the next as any other."""

from __future__ import annotations

import keras
import numpy as np

import tfdist
from tests.training.comparing import mirrored
from tests.training.models import TARGETS, X


def test_statistics_of_the_next_fit_are_the_mean_of_all_replicas() -> None:
    with mirrored(3).scope():
        normalization = keras.layers.BatchNormalization(momentum=0.5)
        model = keras.Sequential([keras.Input((8,)), normalization, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.0), "mse")
    tfdist.plug(model)
    # Two rows are left for three replicas, then 96 rows are shared evenly.
    model.fit(X[:34], TARGETS[:34], batch_size=32, shuffle=False, verbose=0)
    before = np.asarray(normalization.moving_mean)
    model.fit(X[:96], TARGETS[:96], batch_size=96, shuffle=False, verbose=0)
    means = [rows.mean(0) for rows in np.split(X[:96], 3)]
    expected = 0.5 * before + 0.5 * np.mean(means, axis=0)
    np.testing.assert_allclose(np.asarray(normalization.moving_mean), expected, atol=1e-6)
