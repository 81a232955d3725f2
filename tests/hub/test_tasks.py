"""Tasks of keras_hub: their own fit, evaluate and predict prepare raw text.

keras_hub is in none of the extras (it installs TensorFlow Text): these are skipped without it.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tests.training.comparing import same
from tests.training.devices import cut_the_cpu

hub = pytest.importorskip("keras_hub")
cut_the_cpu()

WORDS = ["good", "bad", "film", "a", "very", "what", "plot", "no"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
_random = np.random.default_rng(5)
TEXTS = [" ".join(_random.choice(WORDS, size=5)) for _ in range(41)]
LABELS = np.array([int("good" in text) for text in TEXTS])


def classifier() -> keras.Model:
    backbone = hub.models.BertBackbone(
        vocabulary_size=len(VOCABULARY),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=8,
        dropout=0.0,
    )
    tokenizer = hub.models.BertTokenizer(vocabulary=VOCABULARY, lowercase=True)
    model = hub.models.BertTextClassifier(
        backbone=backbone,
        num_classes=2,
        dropout=0.0,
        preprocessor=hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=8),
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def test_a_text_classifier_trains_on_raw_text_as_in_plain_keras() -> None:
    def use(model: keras.Model) -> Any:
        held_out = (TEXTS[:9], LABELS[:9])
        history = model.fit(TEXTS, LABELS, batch_size=16, epochs=2, validation_data=held_out)
        return [
            history.history,
            model.evaluate(TEXTS, LABELS, batch_size=16),
            model.predict(TEXTS[:7], batch_size=4),
        ]

    same(classifier, use)
