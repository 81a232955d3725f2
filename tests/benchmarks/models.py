"""The models that are trained, and their data: the same for every alternative."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

__all__ = [
    "LEARNING_RATE",
    "MODELS",
    "REPLICA_BATCH",
    "Model",
    "arrays",
    "compiled",
    "dataset",
    "keras_layers",
]

REPLICA_BATCH = 64
LEARNING_RATE = 0.01
CLASSES = 10
HIDDEN = {"mlp": [512] * 2, "wide": [2048] * 4}
BLOCKS, WIDTH, HEADS = 2, 256, 4  # of the transformer
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
        Model("wide", "Dense 2048, 2048, 2048, 2048, 10 (57 MB)", (28, 28, 1), 20, 40),
        Model("transformer", "Dense 256, 2 blocks (4 heads, 1024), Dense 10", (32, 64), 20, 40),
    )
}


def keras_layers(api: Any, name: str) -> list[Any]:
    """The layers of a model, by Keras 3 or by tf_keras (`api`); the last gives logits."""
    layers = api.layers
    if name == "tiny":
        return [layers.Flatten(), layers.Dense(CLASSES)]
    if name in HIDDEN:
        hidden = [layers.Dense(units, activation="relu") for units in HIDDEN[name]]
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
    if name == "transformer":
        blocks = [_block(api) for _ in range(BLOCKS)]
        pooled = layers.GlobalAveragePooling1D()
        return [layers.Dense(WIDTH), *blocks, pooled, layers.Dense(CLASSES)]
    assert name == "lstm"
    return [layers.LSTM(64), layers.Dense(CLASSES)]


def _block(api: Any) -> Any:
    """A block of a transformer that normalizes first, as torch's with `norm_first`."""
    layers = api.layers
    base: Any = layers.Layer

    class Block(base):
        def __init__(self) -> None:
            super().__init__()
            self.norms = [layers.LayerNormalization(epsilon=1e-5) for _ in range(2)]
            self.attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
            self.widen = layers.Dense(4 * WIDTH, activation="relu")
            self.narrow = layers.Dense(WIDTH)

        def build(self, shape: Any) -> None:
            for norm in self.norms:
                norm.build(shape)
            if not hasattr(self.attention, "_build_from_signature"):  # Keras 3
                self.attention.build(shape, shape)
            self.widen.build(shape)
            self.narrow.build((*shape[:-1], 4 * WIDTH))
            super().build(shape)

        def call(self, x: Any) -> Any:
            normal = self.norms[0](x)
            x = x + self.attention(normal, normal)
            return x + self.narrow(self.widen(self.norms[1](x)))

    return Block()


def compiled(api: Any, model: Model, **options: Any) -> Any:
    """Returns a model of Keras 3 or of tf_keras (`api`), as `fit` trains it.

    Args:
        api: either.
        model: which.
        options: more for `compile`.
    """
    network = api.Sequential([api.Input(model.shape), *keras_layers(api, model.name)])
    network.compile(
        optimizer=api.optimizers.SGD(LEARNING_RATE),
        loss=api.losses.SparseCategoricalCrossentropy(from_logits=True),
        **{"metrics": ["accuracy"], **options},
    )
    return network


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
