"""Programs of the parameter-server tests, beside those of `tests.multi_worker.programs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, optimizers

from tests.multi_worker import programs

SAME = [
    name
    for name in programs.USUAL
    if name not in ("clipped and accumulated", "mixed precision")  # refused: see REFUSED
]
"""The programs in which one worker does what one process of plain Keras does."""

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: optimizers.SGD(0.5),
    "clipped": lambda: optimizers.SGD(0.5, global_clipnorm=0.05),
}
if programs.THOROUGH:
    OPTIMIZERS |= {
        "adagrad": lambda: optimizers.Adagrad(0.3, initial_accumulator_value=0.5),
        "ftrl": lambda: optimizers.Ftrl(0.3),
    }
"""Whose sparse updates are those of plain Keras."""

EXACT: dict[str, Callable[[], Any]] = {
    "adamw, clipped": lambda: optimizers.AdamW(0.05, weight_decay=0.1, global_clipnorm=0.05),
    "ftrl": lambda: optimizers.Ftrl(0.3, beta=0.1),
}
if programs.THOROUGH:
    EXACT |= {
        "adam": lambda: optimizers.Adam(0.05),
        "rmsprop": lambda: optimizers.RMSprop(0.02, momentum=0.9, centered=True, clipnorm=0.05),
        "nadam": lambda: optimizers.Nadam(0.05),
        "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    }
"""Whose updates are those of plain Keras with `exact_embeddings`, whatever a batch looks up.

`tests/training/test_sparse.py` has the kernels of all optimizers in one process.
"""

_rng = np.random.default_rng(5)
# No id twice in a batch: Keras' optimizers square each of its gradients by itself, not their sum.
IDS = np.concatenate([_rng.permutation(200).reshape(40, 5) for _ in range(4)]).astype("int32")
TARGETS = _rng.normal(size=(160, 1)).astype("float32")
TWICE = ((_rng.integers(0, 200, (160, 5)) ** 2 // 300).astype("int32"), 5)
"""Ids of which a batch has some several times and many never, and a number of epochs."""


def recommender(optimizer: Any) -> keras.Model:
    """A model whose table of 200 x 8 is its largest part."""
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(200, 8),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def fit(model: keras.Model, ids: Any = IDS, epochs: int = 2, **settings: Any) -> Any:
    """Trains as all sides do."""
    return model.fit(ids, TARGETS, 40, epochs, shuffle=False, verbose=0, **settings).history


def _eager(make: Any) -> Any:
    model = make()
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def _compiled(make: Any) -> Any:
    model = make()
    model.compile("sgd", "mse", jit_compile=True)
    return model


REFUSED: dict[str, Callable[[Any], Any]] = {
    "gradient_accumulation_steps": lambda make: make(
        lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2)
    ),
    "LossScaleOptimizer": lambda make: make(
        lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1))
    ),
    "run_eagerly": _eager,
    "jit_compile": _compiled,
    "gradient_dtype": lambda make: make(gradient_dtype="bfloat16"),
    "push_every": lambda make: make(push_every=0),
}
"""What parameter-server training refuses; the message names it."""
