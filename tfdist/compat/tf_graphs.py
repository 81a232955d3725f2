"""TensorFlow graphs: constants, captures, loops, and the order of what is written already."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfdist.compat import names
from tfdist.compat.names import (
    tf_conditions,
    tf_context,
    tf_control,
    tf_func_graphs,
    tf_loops,
    tf_ops,
    tf_record,
    tf_session,
)
from tfdist.structures import Gradient

__all__ = [
    "branches",
    "captured",
    "constant_value",
    "has_seed_of_this_run",
    "in_control_flow",
    "is_in_a_loop",
    "is_symbolic",
    "is_watched",
    "kept_as_written",
    "loop_body",
    "nodes_of",
    "recorded",
    "run_after",
    "seed_if_unseeded",
    "tells_once",
    "unordered_stamps",
]

_own_seed: int | None = None


def seed_if_unseeded(seed: int) -> None:
    """Sets TensorFlow's global seed, unless the program has set one."""
    global _own_seed
    if tf_context.global_seed() is None:
        tf.random.set_seed(seed)
        _own_seed = seed


def has_seed_of_this_run() -> bool:
    """Whether TensorFlow's global seed is not the program's, which another run would set again."""
    return _own_seed is not None and tf_context.global_seed() == _own_seed


def is_symbolic(tensor: tf.Tensor) -> bool:
    """Whether a tensor is an operation's output in a graph, and not a value."""
    return not isinstance(tensor, _eager_tensor)


def constant_value(tensor: tf.Tensor) -> np.ndarray | None:
    """Returns the value that a tensor of a graph always has, as an array; None if it has none."""
    value = tf.get_static_value(tensor)
    if value is None and is_symbolic(tensor):
        with tensor.graph._c_graph.get() as graph:
            value = tf_session.TF_TryEvaluateConstant_wrapper(graph, tensor._as_tf_output())
    return None if value is None else np.asarray(value)


def captured(placeholder: tf.Tensor) -> tf.Tensor | None:
    """Returns what a placeholder stands for in the graph around its own; None for an argument."""
    for outer, inner in placeholder.graph.captures:
        if inner is placeholder:
            return outer
    return None


def branches(operation: tf.Operation) -> Sequence[tf.Graph] | None:
    """Returns the graphs of a condition's branches, whose captures are its inputs; else None."""
    if operation.type not in ("If", "StatelessIf", "Case", "StatelessCase"):
        return None
    graphs: Sequence[tf.Graph] = tf_conditions.get_func_graphs(operation)
    return graphs


def nodes_of(graph: tf.Graph) -> list[tf.compat.v1.NodeDef]:
    """All operations of a function's graph, and of the functions that it calls."""
    definition = graph.as_graph_def()
    return [*definition.node, *(n for f in definition.library.function for n in f.node_def)]


def loop_body(operation: tf.Operation) -> tf.Graph | None:
    """Returns the graph of a loop's body, whose outputs are its; None of what is no loop."""
    if operation.type not in _LOOPS:
        return None
    graph: tf.Graph = tf_loops._get_graph(operation, "body", "_body_graph")
    return graph


_LOOPS = ("While", "StatelessWhile")


def is_in_a_loop(graph: tf.Graph) -> bool:
    """Whether the graph that is being written is a TensorFlow loop's body inside of `graph`."""
    now = tf.compat.v1.get_default_graph()
    while now is not None and now is not graph:
        if isinstance(now, tf_func_graphs.WhileBodyFuncGraph):
            return True
        now = getattr(now, "outer_graph", None)
    return False


def in_control_flow() -> bool:
    """Whether the graph that is being written is a branch or a loop's body of TensorFlow's."""
    return bool(getattr(tf.compat.v1.get_default_graph(), "is_control_flow_graph", False))


_eager_tensor = names.of(tf_ops, "EagerTensor")


def kept_as_written(tensor: tf.Tensor) -> tf.Tensor:
    """Keeps TensorFlow's optimizer from making one operation of this sum and others around it."""
    return tf.raw_ops.Snapshot(input=tensor)


def is_watched(tensors: Sequence[tf.Tensor]) -> bool:
    """Whether some tape of this thread wants to know what is computed from these tensors."""
    return bool(tf_record.should_record_backprop(list(tensors)))


def tells_once(tape: tf.GradientTape) -> bool:
    """Whether a tape can be asked for gradients once only."""
    return not tape._persistent


def recorded(
    name: str,
    inputs: Sequence[tf.Tensor],
    compute: Callable[[], Sequence[tf.Tensor]],
    backward: Callable[..., Sequence[Gradient | None]],
) -> list[tf.Tensor]:
    """Computes something that this thread's tapes are to see as one operation.

    Args:
        name: of the operation.
        inputs: what it is computed from.
        compute: returns its outputs; tapes do not look into it.
        backward: from the gradients of the outputs to those of the inputs.
    """
    with tf_record.stop_recording():
        outputs = [tf.identity(one) for one in compute()]
    tf_record.record_operation(name, outputs, list(inputs), lambda *flow: list(backward(*flow)))
    return outputs


@contextlib.contextmanager
def unordered_stamps() -> Iterator[None]:
    """Has `tf.timestamp` wait, in what is traced in the block, only for what it is told to.

    TensorFlow would run all time stamps of a function one after the other, and with them all that
    they measure.
    """
    before = tf_control.ASYNC_STATEFUL_OPS
    tf_control.ASYNC_STATEFUL_OPS = before | {"Timestamp"}
    try:
        yield
    finally:
        tf_control.ASYNC_STATEFUL_OPS = before


def run_after(
    operations: Sequence[tf.Operation], others: Sequence[tf.Operation | tf.Tensor]
) -> None:
    """Has operations wait for others, though they have been written already.

    Args:
        operations: of the graph that is being written; none of the others needs any of them.
        others: operations or tensors, what they wait for.
    """
    until = list(dict.fromkeys(getattr(other, "op", other) for other in others))
    for operation in operations:
        operation._add_control_inputs(until)
