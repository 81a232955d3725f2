"""The residual network: its images change in training, on replicas as in one process."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.training.comparing import same
from tests.training.devices import cut_the_cpu
from tfdist.examples import data, resnet

cut_the_cpu()

ROWS = 41  # the last batch has 9
(X, Y), (TEST_X, TEST_Y) = data.digits()


def test_images_change_in_training_alone() -> None:
    model = resnet.build_model()
    names = [one.name for one in model.layers if one.name.startswith("random")]
    assert len(names) == 3
    changed = keras.Model(model.input, model.get_layer(names[-1]).output)
    images = X[:8]
    np.testing.assert_array_equal(changed(images, training=False), images)
    one, other = (np.asarray(changed(images, training=True)) for _ in range(2))
    assert np.abs(one - images).max() > 0.1
    assert np.abs(one - other).max() > 0.1


def test_replicas_have_the_losses_and_weights_of_one_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In float64: normalizations make float32's rounding 2e-5 of the loss after six steps."""
    monkeypatch.setattr(resnet, "_BLOCKS", 1)

    def make() -> keras.Model:
        keras.config.set_dtype_policy("float64")
        model = resnet.build_model()
        optimizer = resnet.make_optimizer(0.01, steps=12)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def use(model: keras.Model) -> object:
        history = model.fit(X[:ROWS], Y[:ROWS], batch_size=16, epochs=3, verbose=0).history
        return history, model.evaluate(TEST_X[:50], TEST_Y[:50], batch_size=16, verbose=0)

    same(make, use, history=1e-6, weights=1e-7)
