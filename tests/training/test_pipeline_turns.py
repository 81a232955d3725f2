"""What waits for what in a pipeline's program."""

from __future__ import annotations

import tensorflow as tf

from tfdist.training.pipelined_turns import delay


def test_what_nobody_needs_waits_for_what_goes_back() -> None:
    """Of z = (x W1) W2 the gradient for x goes first; both weights' come after it."""
    graph = tf.Graph()
    with graph.as_default():
        x, first, second = (tf.random.normal((4, 4), name=name) for name in ("x", "w1", "w2"))
        with tf.GradientTape() as tape:
            tape.watch([x, first, second])
            z = tf.matmul(tf.matmul(x, first), second)
        known = len(graph.get_operations())
        back, *own = tape.gradient(z, [x, first, second])
        delay(graph.get_operations()[known:], until=[back])
        waiting = {op for op in graph.get_operations() if back.op in op.control_inputs}
        assert {gradient.op for gradient in own} == waiting
        with tf.compat.v1.Session(graph=graph) as session:
            session.run([back, *own])  # nothing waits for itself


def test_a_gradient_that_goes_back_too_does_not_wait() -> None:
    """Of x + b the gradients are one and the same tensor."""
    graph = tf.Graph()
    with graph.as_default():
        x, bias = (tf.random.normal((4, 4), name=name) for name in ("x", "b"))
        with tf.GradientTape() as tape:
            tape.watch([x, bias])
            z = tf.square(x + bias)
        known = len(graph.get_operations())
        back, own = tape.gradient(z, [x, bias])
        delay(graph.get_operations()[known:], until=[back])
        assert back.op not in own.op.control_inputs
        with tf.compat.v1.Session(graph=graph) as session:
            session.run([back, own])


def test_nothing_waits_for_nothing() -> None:
    with tf.Graph().as_default() as graph:
        one = tf.constant(1.0)
        delay(graph.get_operations(), until=[])
        assert not one.op.control_inputs
