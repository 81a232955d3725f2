"""What TensorFlow keeps for each thread, of one thread for others that write the same graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from tfdist.compat.names import tf_context, tf_ops

__all__ = ["Place", "ThreadState"]


class Place:
    """Where in a graph something is being written: its name scope, and what it must wait for."""

    def __init__(self) -> None:
        self.graph = tf_ops.get_default_graph()
        self.eager = tf.executing_eagerly()
        scope = self.graph.get_name_scope()
        self.scope = f"{scope}/" if scope else ""
        self._until = [] if self.eager else self.graph._current_control_dependencies()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Goes on writing there, in another thread that writes the same graph."""
        with tf.name_scope(self.scope), tf.control_dependencies(list(self._until)):
            yield


class ThreadState:
    """The state of the thread that makes this; other threads then enter it, one at a time."""

    def __init__(self) -> None:
        place = Place()
        self._graph, self._eager, self._scope = place.graph, place.eager, place.scope
        if not self._eager:
            self._graph.switch_to_thread_local()
        with tf.init_scope():
            self._outer = Place()
        self._creators = list(self._graph._variable_creator_stack)

    def is_here(self) -> bool:
        """Whether what this thread writes goes into the same graph."""
        return tf_ops.get_default_graph() is self._graph

    @contextlib.contextmanager
    def entered(self, context: tf.distribute.ReplicaContext, name: str) -> Iterator[None]:
        """Has this thread write what the other one does, in a replica's context.

        Args:
            context: the replica's.
            name: of the scope of its operations; "" for none of its own.
        """
        outer = self._outer
        with (
            outer.graph.as_default(),
            tf_context.eager_mode() if outer.eager else contextlib.nullcontext(),
            self._graph.as_default(),
            tf_context.eager_mode() if self._eager else contextlib.nullcontext(),
        ):
            creators, self._graph._variable_creator_stack = (
                self._graph._variable_creator_stack,
                list(self._creators),
            )
            try:
                with context, tf.name_scope(f"{self._scope}{name}"):
                    yield
            finally:
                self._graph._variable_creator_stack = creators
