"""Gradients of weights apart from the rest of a backward, and of several microbatches at once.

A layer's kernel has the gradient x^T dz, for which nothing else in the step waits. Over some
microbatches that is a sum of products, and the product of what stands one below the other:

    x_0^T dz_0 + x_1^T dz_1 + ...  =  [x_0; x_1; ...]^T [dz_0; dz_1; ...]

One large product runs closer to the speed of the machine than several small ones, and nothing has
to be added up, which costs the memory of a kernel three times a microbatch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfdist.compat import tf_graphs
from tfdist.structures import Gradient
from tfdist.training.pipelined.gradient_sums import total

__all__ = ["Later", "last_operations", "leave", "not_needed", "run_later", "summed"]


@dataclasses.dataclass(frozen=True)
class Later:
    """What a backward has left for later.

    Attributes:
        gradients: of a segment's weights by one microbatch, by the identities of the variables.
        operations: of theirs that are run later.
    """

    gradients: dict[int, Gradient]
    operations: Sequence[tf.Operation]


def leave(
    gradients: dict[int, Gradient], needs: Sequence[tf.Tensor], made: Sequence[tf.Operation]
) -> tuple[Later, list[tf.Tensor]]:
    """Leaves the last operation of each gradient for later.

    Args:
        gradients: of a segment's weights, by the identities of the variables.
        needs: what is not left in any case.
        made: the operations of the backward, the last ones of the graph that is being written.

    Returns:
        What is left, and all that is computed now: `needs`, and what the last operations need.
    """
    last = [operation for g in gradients.values() for operation in last_operations(g)]
    here = set(made)
    inputs = {t.ref(): t for operation in last for t in operation.inputs if t.op in here}
    now = [*needs, *inputs.values()]
    return Later(gradients, not_needed(last, now, made)), now


def last_operations(gradient: Gradient) -> list[tf.Operation]:
    """Returns the operations that a gradient is the outcome of, such as the product x^T dz."""
    found = []
    for tensor in tf.nest.flatten(gradient, expand_composites=True):
        operation = tensor.op
        while operation.type in _AROUND:
            operation = operation.inputs[0].op
        found.append(operation)
    return found


def not_needed(
    operations: Sequence[tf.Operation], needs: Sequence[tf.Tensor], made: Sequence[tf.Operation]
) -> list[tf.Operation]:
    """Returns those of some operations that some tensors do not need.

    Args:
        operations: of which those that are not among `made` are left out.
        needs: the tensors.
        made: the last operations of the graph that is being written.
    """
    candidates = set(made)
    needed: set[tf.Operation] = set()
    front = [tensor.op for tensor in needs]
    while front:
        operation = front.pop()
        if operation in candidates and operation not in needed:
            needed.add(operation)
            front += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    return [operation for operation in operations if operation in candidates - needed]


def run_later(
    left: Sequence[Later],
    begin: tf.Tensor,
    device: str,
    add: Callable[[int, Gradient], list[tf.Tensor]],
) -> list[tf.Tensor]:
    """Writes what the backwards of some microbatches have left.

    Args:
        left: by each of them, for the same segment.
        begin: what it waits for.
        device: of the segment.
        add: takes a variable's identity and its gradient; returns what is computed for it.

    Returns:
        All that is computed.
    """
    for one in left:
        tf_graphs.run_after(one.operations, [begin])
    done: list[tf.Tensor] = []
    before: list[tf.Tensor] = [begin]
    for key in dict.fromkeys(key for one in left for key in one.gradients):
        found = [one.gradients[key] for one in left if key in one.gradients]
        # One after the other: products that share a core share its caches.
        with tf.device(device), tf.control_dependencies(before):
            sparse = all(isinstance(gradient, tf.IndexedSlices) for gradient in found)
            each = found if sparse else [summed(found)]
            before = [tensor for gradient in each for tensor in add(key, gradient)]
        done += before
    return done


def summed(gradients: Sequence[Gradient]) -> Gradient:
    """Returns the sum of a variable's gradients by several microbatches.

    Args:
        gradients: tensors, or sparse ones, all written by the same layer.

    Returns:
        The sum: by one matrix product where each is a matrix product; else added up.
    """
    if len(gradients) > 1 and not any(isinstance(g, tf.IndexedSlices) for g in gradients):
        product = _product(gradients)
        if product is not None:
            return product
    return total(gradients)


_AROUND = ("Cast", "Identity", "Reshape")
"""What may stand between a matrix product and the gradient that it is."""


def _product(gradients: Sequence[tf.Tensor]) -> tf.Tensor | None:
    operations = [gradient.op for gradient in gradients]
    kind = operations[0].type
    if any(operation.type != kind for operation in operations):
        return None
    if kind in _AROUND:
        inner = _product([operation.inputs[0] for operation in operations])
        if inner is None or kind == "Identity":
            return inner
        if kind == "Cast":
            return tf.cast(inner, gradients[0].dtype)
        return tf.reshape(inner, operations[0].inputs[1])
    if kind != "MatMul" or not all(map(_is_by_rows, operations)):
        return None
    left, right = (tf.concat([op.inputs[i] for op in operations], 0) for i in (0, 1))
    return tf.matmul(left, right, transpose_a=True)


def _is_by_rows(operation: tf.Operation) -> bool:
    """Whether a matrix product sums over the rows of both of its factors."""
    return operation.get_attr("transpose_a") and not operation.get_attr("transpose_b")
