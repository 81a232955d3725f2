"""A callback with a state of its own, which a checkpoint keeps."""

from __future__ import annotations

from typing import Any

import keras


class Losses(keras.callbacks.Callback):
    """Remembers the loss of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(float(logs["loss"]))

    def get_state(self) -> Any:
        return {"seen": self.seen}

    def set_state(self, state: Any) -> None:
        self.seen = state["seen"]
