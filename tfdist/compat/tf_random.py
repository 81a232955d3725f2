"""TensorFlow's draws that keep a state of their own, which no seed of an operation fixes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfdist.compat.names import tf_random_ops

__all__ = ["replace_draw"]

Draw = Callable[..., Any]


def replace_draw(name: str, made: Callable[[Draw], Draw]) -> None:
    """Has this process draw by another function, from now on.

    Args:
        name: of the operation's function, such as "random_uniform".
        made: makes what takes its place, given what stands there.
    """
    setattr(tf_random_ops, name, made(getattr(tf_random_ops, name)))
