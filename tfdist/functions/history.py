"""What `fit` has returned in a task, brought back without the model and without Keras."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["FitHistory"]


class FitHistory:
    """A `keras.callbacks.History` to `isinstance`, for which Keras is not imported here.

    Attributes:
        history: The metrics of each epoch, by name.
        epoch: The numbers of the epochs, from 0.
        params: What `fit` was called with: epochs, steps, verbose.
        model: None; return the model to have it.
    """

    model = None

    def __init__(
        self, history: dict[str, list[Any]], epoch: list[int], params: dict[str, Any]
    ) -> None:
        self.history, self.epoch, self.params = history, epoch, params

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.history.items())
        return f"<History of {len(self.epoch)} epochs, the last with {last}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return FitHistory, (self.history, self.epoch, self.params)

    @property
    def __class__(self) -> Any:  # what isinstance asks after type()
        callbacks = getattr(sys.modules.get("keras"), "callbacks", None)
        return getattr(callbacks, "History", FitHistory)

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise TypeError("a FitHistory stays what it is")
