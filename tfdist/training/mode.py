"""What steps are taken for."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Mode"]

Mode: TypeAlias = Literal["train", "test", "predict"]
"""As Keras names its three step functions: `train_step`, `test_step` and `predict_step`."""
