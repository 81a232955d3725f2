"""The transformer: it looks back only, and is the same on replicas."""

from __future__ import annotations

import keras
import numpy as np

from tests.training.comparing import ADAM_WEIGHTS, same
from tests.training.devices import cut_the_cpu
from tfdist.examples import descriptions, gpt

cut_the_cpu()

ROWS = 41  # the last batch has 9
(X, Y), (TEST_X, TEST_Y) = descriptions.windows(gpt.LENGTH, ROWS * 8)


def test_no_place_sees_what_comes_after_it() -> None:
    model, rows = gpt.build_model(), X[:2].copy()
    before = model.predict(rows, verbose=0)
    rows[:, 20:] = ord("x")
    after = model.predict(rows, verbose=0)
    np.testing.assert_allclose(after[:, :20], before[:, :20], atol=1e-6)
    assert np.abs(after[:, 20:] - before[:, 20:]).max() > 0.01


def test_replicas_have_the_losses_and_weights_of_one_process() -> None:
    def make() -> keras.Model:
        model = gpt.build_model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.003), loss)
        return model

    def use(model: keras.Model) -> object:
        history = model.fit(X[:ROWS], Y[:ROWS], batch_size=16, epochs=2, verbose=0).history
        return history, model.evaluate(TEST_X, TEST_Y, batch_size=16, verbose=0)

    same(make, use, weights=ADAM_WEIGHTS)
