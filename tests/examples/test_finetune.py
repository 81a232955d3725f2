"""A transformer of keras_hub that is tuned, on replicas as in one process."""

from __future__ import annotations

import importlib
from typing import Any

import keras
import numpy as np
import pytest

from tests.training.comparing import same
from tests.training.devices import cut_the_cpu
from tfdist.examples import data, finetune

cut_the_cpu()


def test_the_few_images_are_as_many_of_each_digit_and_always_the_same() -> None:
    (_, labels), _ = data.digits()
    places = finetune.few(labels)
    assert np.bincount(labels[places]).tolist() == [10] * 10
    assert len(set(places)) == 100
    np.testing.assert_array_equal(places, finetune.few(labels))


def test_without_keras_hub_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"keras_hub is not installed: pip install"):
        finetune.build_backbone()


def test_replicas_tune_what_one_process_tunes() -> None:
    pytest.importorskip("keras_hub")
    (noisy, _), _ = data.noisy_digits()
    (_, labels), _ = data.digits()
    places = finetune.few(labels, each=5)[:41]  # the last batch has 9

    def make() -> keras.Model:
        backbone = finetune.build_backbone()
        backbone.enable_lora(4)
        model = finetune.build_classifier(backbone, 1e-3)
        trained = sum(int(np.prod(one.shape)) for one in model.trainable_variables)
        assert trained < 0.15 * model.count_params()
        return model

    def use(model: keras.Model) -> object:
        return model.fit(noisy[places], labels[places], batch_size=16, epochs=3, verbose=0).history

    same(make, use)
