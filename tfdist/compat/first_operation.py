"""The moment before TensorFlow's first operation, and a scope that holds for the whole program.

Written for TensorFlow 2.21. A process's eager context is initialized by the first operation, or by
the first question for its devices; from then on neither devices nor collectives can be configured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf
from tensorflow.python.eager import context as tf_context

__all__ = ["before_the_first_operation", "enter_for_good", "left_for_a_while"]

_entered: list[
    tuple[tf.distribute.Strategy, contextlib.AbstractContextManager[tf.distribute.Strategy]]
] = []
"""The scope that holds; were it dropped, Python would leave it."""


def before_the_first_operation(then: Callable[[], bool]) -> None:
    """Calls a function before TensorFlow runs an operation, until the function returns True.

    Args:
        then: Is called in the thread of the operation; what it runs itself calls it again.
    """
    original = tf_context.Context.ensure_initialized
    over = False

    def ensure_initialized(self: tf_context.Context) -> None:
        nonlocal over
        if not over and then():
            over = True
            if tf_context.Context.ensure_initialized is ensure_initialized:
                tf_context.Context.ensure_initialized = original
        original(self)

    tf_context.Context.ensure_initialized = ensure_initialized


def enter_for_good(strategy: tf.distribute.Strategy) -> None:
    """Enters the scope of a strategy in this thread, for as long as the program runs.

    It may happen anywhere: while a function is traced, or inside `with tf.device(...)`, which
    wants to find its own device again when it is left. So the scope goes without its default
    device, which is this process and nothing more.
    """
    scope = strategy.scope()
    scope._device_scope = None
    with tf.init_scope():
        scope.__enter__()
    _entered.append((strategy, scope))


@contextlib.contextmanager
def left_for_a_while() -> Iterator[None]:
    """Leaves the scope that `enter_for_good` has entered in this thread, to enter it again.

    What one task does alone in it, such as to write a file, would wait for the others: each new
    variable is agreed upon.
    """
    if not _entered or not tf.distribute.in_cross_replica_context():
        yield
        return
    strategy, scope = _entered.pop()
    scope.__exit__(None, None, None)
    try:
        yield
    finally:
        enter_for_good(strategy)
