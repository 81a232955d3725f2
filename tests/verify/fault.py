"""What a program with a seeded fault is, and the data that all of them train on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

ROWS = 96
BATCH = 32

_rng = np.random.default_rng(0)
X = _rng.normal(size=(ROWS, 8)).astype("float32")
LABELS = (X[:, :3] + 0.5 * _rng.normal(size=(ROWS, 3))).argmax(1)
TARGETS = X[:, :2].sum(1, keepdims=True) + 0.1 * _rng.normal(size=(ROWS, 1)).astype("float32")
PAIRS = (X + 0.3 * _rng.normal(size=(ROWS, 8)).astype("float32")).astype("float32")
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "his", "hat", "red", "dog"]
TEXTS = [" ".join(_rng.choice(WORDS, 5)) for _ in range(ROWS)]


@dataclass(frozen=True)
class Fault:
    """A fault that people write.

    Attributes:
        train: the program.
        cause: the kind of cause that is to be named.
        about: the fault in a few words.
        cured: the same program without it; None where the cure has no test.
    """

    train: Callable[[], None]
    cause: str
    about: str
    cured: Callable[[], None] | None = None


def classifier(*between: Any, units: int = 12) -> keras.Model:
    """A classifier of X, not compiled."""
    first = layers.Dense(units, activation="tanh")
    return keras.Sequential([keras.Input((8,)), first, *between, layers.Dense(3)])


def compiled(model: keras.Model, rate: float = 0.1, **settings: Any) -> keras.Model:
    """The model, compiled for labels with plain SGD."""
    given = {
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }
    model.compile(optimizer=keras.optimizers.SGD(rate), **{**given, **settings})
    return model


def regressor(loss: Any, **settings: Any) -> keras.Model:
    """A regressor of TARGETS."""
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(12, activation="tanh"), layers.Dense(1)]
    )
    return compiled(model, loss=loss, **{"metrics": ["mae"], **settings})


def fit(model: keras.Model, x: Any = X, y: Any = LABELS, **settings: Any) -> None:
    """Trains for two epochs."""
    model.fit(x, y, **{"batch_size": BATCH, "epochs": 2, "verbose": 0, **settings})


def job() -> dict[str, Any]:
    """What TF_CONFIG says, as people read it."""
    import json

    found: dict[str, Any] = json.loads(os.environ.get("TF_CONFIG", "{}"))
    return found


def rank() -> int:
    """This process's number in its job."""
    return int(job().get("task", {}).get("index", 0))


def workers() -> int:
    """How many workers the job has."""
    return len(job().get("cluster", {}).get("worker", [0]))
