"""The models that are trained, and their data: the same for every alternative."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

__all__ = ["LEARNING_RATE", "MODELS", "REPLICA_BATCH", "Model", "arrays", "dataset", "keras_layers"]

REPLICA_BATCH = 64
LEARNING_RATE = 0.01
CLASSES = 10
_BATCHES = 20  # different ones; they are repeated, from memory


@dataclasses.dataclass(frozen=True)
class Model:
    """A model to train.

    Attributes:
        name: what `--models` takes.
        text: its layers, for the tables.
        shape: of one example.
        steps: of one turn of a job of several workers.
        steps_alone: of one turn of a single process.
    """

    name: str
    text: str
    shape: tuple[int, ...]
    steps: int
    steps_alone: int

    def __post_init__(self) -> None:
        for steps in (self.steps, self.steps_alone):
            if steps % 20:  # or "20 steps an execution" would not be
                raise ValueError(f"{steps} steps for {self.name}: give a multiple of 20")


MODELS = {
    model.name: model
    for model in (
        Model("tiny", "Dense 10", (28, 28, 1), 600, 2000),
        Model("mlp", "Dense 512, 512, 10", (28, 28, 1), 80, 400),
        Model("cnn", "Conv 32, Conv 64, Dense 128, 10", (28, 28, 1), 40, 80),
        Model("lstm", "LSTM 64 over 28 steps, Dense 10", (28, 28), 100, 200),
    )
}


def keras_layers(api: Any, name: str) -> list[Any]:
    """The layers of a model, by Keras 3 or by tf_keras (`api`); the last gives logits."""
    layers = api.layers
    if name == "tiny":
        return [layers.Flatten(), layers.Dense(CLASSES)]
    if name == "mlp":
        hidden = [layers.Dense(512, activation="relu") for _ in range(2)]
        return [layers.Flatten(), *hidden, layers.Dense(CLASSES)]
    if name == "cnn":
        return [
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(CLASSES),
        ]
    assert name == "lstm"
    return [layers.LSTM(64), layers.Dense(CLASSES)]


def arrays(model: Model, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random examples and labels, `_BATCHES` batches of them."""
    random = np.random.default_rng(0)
    rows = batch * _BATCHES
    x = random.normal(size=(rows, *model.shape)).astype(np.float32)
    return x, random.integers(0, CLASSES, rows)


def dataset(tf: Any, model: Model, batch: int) -> Any:
    """Returns an endless `tf.data.Dataset` of global batches, from memory."""
    data = tf.data.Dataset.from_tensor_slices(arrays(model, batch))
    return data.batch(batch, drop_remainder=True).cache().repeat()
