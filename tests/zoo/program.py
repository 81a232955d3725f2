"""What a program of the zoo is, and the data that all of them train on.

105 rows in batches of 32: the last batch has 9, which 2 replicas share as 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

ROWS = 105
BATCH = 32
FIT: dict[str, Any] = {"batch_size": BATCH, "epochs": 2, "verbose": 0}

_rng = np.random.default_rng(0)
X = _rng.normal(size=(ROWS, 8)).astype("float32")
LABELS = (X[:, :3] + 0.5 * _rng.normal(size=(ROWS, 3))).argmax(1)
TARGETS = X[:, :2].sum(1, keepdims=True) + 0.1 * _rng.normal(size=(ROWS, 1)).astype("float32")
IMAGES = _rng.uniform(size=(ROWS, 8, 8, 1)).astype("float32") ** 2
PAIRS = (X + 0.3 * _rng.normal(size=(ROWS, 8)).astype("float32")).astype("float32")
"""Another view of each row of X."""


@dataclass(frozen=True)
class Program:
    """One pattern.

    Attributes:
        make: builds and compiles the model; called in the strategy's scope.
        use: trains the plugged model and returns all that it sees: histories, logs, outputs.
        verdict: what is expected on every number of replicas: "equal", or "refused: " and a part
            of the reason that must be told.
    """

    make: Callable[[], keras.Model]
    use: Callable[[keras.Model], Any]
    verdict: str = "equal"


def fitted(*data: Any, **settings: Any) -> Callable[[keras.Model], Any]:
    """A `use` that fits these arrays and returns the history."""

    def use(model: keras.Model) -> Any:
        return model.fit(*data, **{**FIT, **settings}).history

    return use
