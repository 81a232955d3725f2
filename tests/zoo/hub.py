"""A task of keras_hub with a tiny random backbone; nothing is downloaded."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import keras
import numpy as np

from tests.zoo.program import FIT, LABELS, ROWS, Program

INSTALLED = importlib.util.find_spec("keras_hub") is not None

TOKENS = {
    "token_ids": np.random.default_rng(5).integers(1, 30, (ROWS, 6)).astype("int32"),
    "segment_ids": np.zeros((ROWS, 6), "int32"),
    "padding_mask": np.arange(6)[None, :] < np.random.default_rng(6).integers(2, 7, (ROWS, 1)),
}


def classifier() -> keras.Model:
    models = importlib.import_module("keras_hub").models
    backbone = models.BertBackbone(
        vocabulary_size=30,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=6,
    )
    model = models.BertTextClassifier(backbone, num_classes=3)
    model.compile(
        optimizer=keras.optimizers.SGD(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def use(model: keras.Model) -> Any:
    history = model.fit(TOKENS, LABELS, **FIT).history
    return history, model.evaluate(TOKENS, LABELS, batch_size=32, verbose=0)


PROGRAMS = {"keras_hub's BertTextClassifier": Program(classifier, use)} if INSTALLED else {}
