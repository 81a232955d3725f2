"""Keras `fit`, `evaluate` and `predict` on every family of strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfdist.training.plugging import plug

__all__ = ["plug"]


def __getattr__(name: str) -> object:
    # TensorFlow is imported when it is needed: `autoplug` starts before the script that it runs.
    if name == "plug":
        from tfdist.compat.installed import check_versions

        check_versions()
        from tfdist.training.plugging import plug

        return plug
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
