"""Programs that train a backbone of keras_hub in one model, and then in another one.

    tfdist run --workers 2 -m tests.hub.two_models FOLDER [NAME ...]

runs them, or those that are named, on the workers of a job, each of which leaves what it has found
in the folder.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

Plug: TypeAlias = Callable[[keras.Model], object]
Scope: TypeAlias = Callable[[], AbstractContextManager[Any]]
Found: TypeAlias = tuple[Any, list[Any]]
"""Histories and scores, and the weights that both models ended with."""

SEED = 7
LENGTH = 8
MASKED = 2
VOCABULARY = 30
BATCH = 16

_random = np.random.default_rng(5)
_IDS = _random.integers(5, VOCABULARY, (41, LENGTH)).astype("int32")  # a last batch of 9
_PADDING = np.arange(LENGTH)[None, :] < _random.integers(4, LENGTH + 1, (41, 1))
_PLACES = np.sort(_random.permuted(np.tile(np.arange(4), (41, 1)), axis=1)[:, :MASKED])
_LABELS = _random.integers(0, 3, 41)

_TOKENS = {"token_ids": _IDS, "padding_mask": _PADDING.astype("int32")}
_FIT = {"batch_size": BATCH, "epochs": 2, "verbose": 0}


def _sgd() -> Any:
    return keras.optimizers.SGD(0.1, momentum=0.9)


def _run(scope: Scope, plug: Plug, prepare: Callable[[Any], None]) -> Found:
    """Trains a masked language model, prepares its backbone, and trains a classifier on it."""
    models = importlib.import_module("keras_hub").models
    keras.utils.set_random_seed(SEED)
    with scope():
        backbone = models.DistilBertBackbone(
            vocabulary_size=VOCABULARY,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            intermediate_dim=16,
            max_sequence_length=LENGTH,
        )
        masked = models.DistilBertMaskedLM(backbone)
        masked.compile(optimizer=_sgd())
    plug(masked)
    places = {"mask_positions": _PLACES.astype("int32")}
    words = np.take_along_axis(_IDS, _PLACES, axis=1)
    found = [masked.fit({**_TOKENS, **places}, words, **_FIT).history]
    with scope():
        prepare(backbone)
        classifier = models.DistilBertTextClassifier(backbone, num_classes=3)
        classifier.compile(optimizer=_sgd(), metrics=["accuracy"])
    plug(classifier)
    found.append(classifier.fit(_TOKENS, _LABELS, **_FIT).history)
    found.append(classifier.evaluate(_TOKENS, _LABELS, batch_size=BATCH, verbose=0))
    found.append(masked.fit({**_TOKENS, **places}, words, **_FIT).history)
    found.append(classifier.predict(_TOKENS, batch_size=BATCH, verbose=0))
    return found, [*masked.get_weights(), *classifier.get_weights()]


def _freeze(backbone: Any) -> None:
    backbone.trainable = False


PROGRAMS: dict[str, Callable[[Any], None]] = {
    "all of it": lambda backbone: None,
    "frozen": _freeze,
    "LoRA": lambda backbone: backbone.enable_lora(2),
}
"""What becomes of the backbone before it is tuned. Its dropout is that of a task's default."""


def run(name: str, scope: Scope, plug: Plug) -> Found:
    """Runs a program."""
    return _run(scope, plug, PROGRAMS[name])


if __name__ == "__main__":
    import tfdist

    strategy = tfdist.strategy(rendezvous_timeout=60)
    cluster = tfdist.Cluster.from_environment()
    assert cluster is not None
    assert cluster.task is not None
    own = {name: run(name, strategy.scope, tfdist.plug) for name in sys.argv[2:] or PROGRAMS}
    file = Path(sys.argv[1], f"found-{cluster.task.index}.pickle")
    file.write_bytes(pickle.dumps(own))
