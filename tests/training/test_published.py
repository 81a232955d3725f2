"""Classes with no call, optimizers that nobody has built, a fit of their own; see also the zoo."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from tests.training import published
from tests.training.comparing import EVERY, same
from tests.training.models import FIT, LABELS, X
from tests.training.published import RAW


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
    "unbuilt gan": (published.unbuilt_gan, lambda m: m.fit(X, **FIT).history),
    "vae": (
        published.vae,
        lambda m: [
            m.evaluate(X, batch_size=32, verbose=0),
            m.fit(X, validation_data=(X[:41],), **FIT).history,
        ],
    ),
    "prepares": (published.prepares, use_prepares),
}


@pytest.mark.thorough  # the zoo has programs like these on two workers
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_published_class_trains_as_in_plain_keras(name: str) -> None:
    same(*PROGRAMS[name], on=EVERY)
