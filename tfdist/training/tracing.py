"""How tfdist makes TensorFlow functions of its own ones."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from tfdist import phases
from tfdist.strategies import fit_clock
from tfdist.structures import P, T, Traced

__all__ = ["traced"]


def traced(function: Callable[..., object], **settings: bool) -> Traced:
    """Returns `function` as a TensorFlow function, as it is written.

    TensorFlow warns of a function that is traced at most of its calls, and takes all functions of
    one place in the code for one: those of the fifth model would get the warning. A `partial` has
    no place in the code.
    """
    return tf.function(functools.partial(_told(function)), autograph=False, **settings)


def _told(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, which says that it is being traced."""

    @functools.wraps(function)
    def told(*arguments: P.args, **keywords: P.kwargs) -> T:
        with phases.during("tracing"), fit_clock.CLOCK.during("compute"):
            return function(*arguments, **keywords)

    return told
