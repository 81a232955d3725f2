"""Strategies of TensorFlow: their scopes and modes, and the copies of their variables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike

from tfdist.compat.names import tf_distribute, tf_ops, tf_values

__all__ = [
    "handles_of",
    "is_on_read",
    "out_of_scope",
    "read_as_one_number",
    "spec_of_remote",
    "without_merge_call",
]


@contextlib.contextmanager
def without_merge_call(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Asks a strategy for its mode without `merge_call` while a step is traced.

    Every replica then updates its own copy of a variable by itself: only so may an update stand in
    a condition, as gradient accumulation and loss scaling need. (TensorFlow itself chooses this
    mode for XLA on GPUs.)
    """
    extended = strategy.extended
    before = extended.__dict__.get("_use_merge_call")
    extended._use_merge_call = lambda: False
    try:
        yield
    finally:
        if before is None:
            del extended._use_merge_call
        else:
            extended._use_merge_call = before


def handles_of(variable: tf.Variable) -> list[tf.Tensor]:
    """Returns the resource handles of a variable's copies in this process."""
    copies = variable.values if isinstance(variable, tf_values.DistributedVariable) else [variable]
    return [copy.handle for copy in copies]


def is_on_read(variable: tf.Variable) -> bool:
    """Whether each replica has a variable for itself until somebody reads it."""
    return bool(variable.synchronization == tf.VariableSynchronization.ON_READ)


@contextlib.contextmanager
def out_of_scope() -> Iterator[None]:
    """Leaves the scopes of all strategies: variables made in the block are this process's own.

    In the scope of a strategy of several processes, making a variable is a collective.
    """
    if not tf.distribute.has_strategy():
        yield
        return
    graph = tf_ops.get_default_graph()
    creators, graph._variable_creator_stack = graph._variable_creator_stack, []
    tf_distribute._push_per_thread_mode(tf_distribute._get_default_replica_mode())
    try:
        yield
    finally:
        tf_distribute._pop_per_thread_mode()
        graph._variable_creator_stack = creators


def read_as_one_number() -> None:
    """Has `int`, `float` and `np.array` read a variable of several replicas as any other.

    TensorFlow gives its class for these no such methods, or one that NumPy refuses. They stay: what
    they replace could only raise.
    """
    kind = tf_values.DistributedVariable
    if "__int__" in vars(kind):
        return

    def array(self: tf.Variable, dtype: DTypeLike | None = None, copy: object = None) -> np.ndarray:
        del copy  # it is one
        return np.array(self.numpy(), dtype)

    kind.__int__ = lambda self: int(self.numpy())
    kind.__float__ = lambda self: float(self.numpy())
    kind.__complex__ = lambda self: complex(self.numpy())
    kind.__array__ = array


def spec_of_remote(value: tf.distribute.coordinator.PerWorkerValue) -> tf.TypeSpec:
    """Returns the type of what a per-worker value is on each worker, to trace a function for it."""
    return value._type_spec
