"""Classes as people publish them: their own steps, compile, fit, no call, several optimizers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training import published
from tests.training.comparing import EVERY, same
from tests.training.models import FIT, LABELS, X
from tests.training.published import RAW


def pairs() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, np.tanh(X))).batch(32)


def use_prepares(model: keras.Model) -> Any:
    history = model.fit(RAW, LABELS, validation_data=(RAW[:50], LABELS[:50]), **FIT).history
    return {
        "history": history,
        "evaluate": model.evaluate(RAW, LABELS, batch_size=32, verbose=0, return_dict=True),
        "predict": model.predict(RAW, verbose=0),
        "one batch": model.train_on_batch(RAW[:7], LABELS[:7]),
        "again": model.fit(RAW, LABELS, **FIT).history,
    }


PROGRAMS: dict[str, tuple[Any, Any]] = {
    "gan": (published.gan, lambda m: m.fit(X, **FIT).history),
    "unbuilt gan": (published.unbuilt_gan, lambda m: m.fit(X, **FIT).history),
    "vae": (
        published.vae,
        lambda m: [
            m.evaluate(X, batch_size=32, verbose=0),
            m.fit(X, validation_data=(X[:41],), **FIT).history,
        ],
    ),
    "simsiam": (published.simsiam, lambda m: m.fit(pairs(), epochs=2, verbose=0).history),
    "distiller": (
        published.distiller,
        lambda m: [m.fit(X, LABELS, **FIT).history, m.evaluate(X, LABELS, verbose=0)],
    ),
    "nested logs": (
        published.nested,
        lambda m: dict(sorted(m.fit(X, LABELS, **FIT).history.items())),
    ),
    "prepares": (published.prepares, use_prepares),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_published_class_trains_as_in_plain_keras(name: str) -> None:
    same(*PROGRAMS[name], on=EVERY)
