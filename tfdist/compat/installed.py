"""Whether tfdist fits the Keras that is installed: asked before any of it is used."""

from __future__ import annotations

import itertools

import keras

from tfdist.compat import names, versions
from tfdist.compat.patches import POINTS
from tfdist.errors import PlugError

__all__ = ["check_versions"]


def check_versions() -> None:
    """Checks that the installed Keras is one that the replacements fit.

    Raises:
        PlugError: Keras runs on another backend, is of a version that nobody has tested, or has
            moved a name that tfdist uses or changed the parameters of a function it replaces.
    """
    if keras.backend.backend() != "tensorflow":
        raise PlugError(
            f"Keras runs on the backend {keras.backend.backend()!r}; tfdist trains on TensorFlow: "
            "set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    moved = [*names.moved(), *itertools.chain(*(point.moved() for point in POINTS.values()))]
    reason = versions.refusal(keras.__version__, moved)
    if reason is not None:
        raise PlugError(reason)
