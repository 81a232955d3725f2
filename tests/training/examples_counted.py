"""How many examples `fit` says that it has trained on, with data of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tests.multi_worker.programs import LABELS, X
from tfdist.callbacks import ExamplesPerSecond
from tfdist.training.plugged import Plugged

EPOCHS = 2
EXPECTED = {
    "arrays": 105 * EPOCHS,
    "a dataset": 105 * EPOCHS,
    "a dataset of unknown length": 41 * EPOCHS,
    "an endless dataset": (32 * 5 - 23) * EPOCHS,
    "every batch by itself": 105 * EPOCHS,
    "each worker's own": 105 * EPOCHS,
}
"""The last batches are short ones; validation is not counted."""


SOME = ("arrays", "a dataset of unknown length", "each worker's own")
"""The kinds that several processes train on."""


def examples_counted(model: keras.Model, *kinds: str) -> dict[str, tuple[int, bool]]:
    """Trains a plugged model on data of each kind.

    Args:
        model: a classifier of `programs`.
        kinds: which; none for all.

    Returns:
        How many examples were counted, and whether the history has their speed, each above 0.
    """
    found = {}
    for name in kinds or EXPECTED:
        plugged = Plugged.of(model)
        assert plugged is not None
        before = plugged.examples
        history = KINDS[name](model).history.get("examples_per_second", [])
        found[name] = (plugged.examples - before, [speed > 0 for speed in history] == [True] * 2)
    return found


def _fit(model: keras.Model, *data: Any, callbacks: Any = (), **settings: Any) -> Any:
    speed = ExamplesPerSecond()
    settings = {"epochs": EPOCHS, "verbose": 0, **settings}
    return model.fit(*data, callbacks=[speed, *callbacks], **settings)


def _generated() -> Iterator[Any]:
    for start in range(0, 41, 16):
        yield X[start : min(start + 16, 41)], LABELS[start : min(start + 16, 41)]


def _unknown() -> tf.data.Dataset:
    specs = (tf.TensorSpec((None, 8)), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(_generated, output_signature=specs)


def _dataset() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, LABELS))


def _own(context: tf.distribute.InputContext) -> tf.data.Dataset:
    mine = _dataset().shard(context.num_input_pipelines, context.input_pipeline_id)
    return mine.batch(context.get_per_replica_batch_size(12))


def expected(counted: Iterable[str], is_chief: bool = True) -> dict[str, tuple[int, bool]]:
    """What `examples_counted` is to have found."""
    return {name: (EXPECTED[name], is_chief) for name in counted}


KINDS: dict[str, Callable[[keras.Model], Any]] = {
    "arrays": lambda model: _fit(model, X, LABELS, 32, validation_data=(X, LABELS)),
    "a dataset": lambda model: _fit(model, _dataset().batch(32)),
    "a dataset of unknown length": lambda model: _fit(model, _unknown()),
    "an endless dataset": lambda model: _fit(
        model, _dataset().batch(32).repeat(), steps_per_epoch=5
    ),
    "every batch by itself": lambda model: _fit(
        model,
        X,
        LABELS,
        32,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)],
    ),
    "each worker's own": lambda model: _fit(model, _own),
}
