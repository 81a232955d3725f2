"""Keras `fit`, `evaluate` and `predict` on every family of strategy."""

from __future__ import annotations

from tfdist.training.plugged import plug

__all__ = ["plug"]
