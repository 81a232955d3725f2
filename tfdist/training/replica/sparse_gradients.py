"""Sparse gradients of rows that are looked up once for a batch, and not once for each example.

An embedding of positions, or a table of relative places, is asked for the same rows whatever the
examples are. Its gradient names each lookup once, and what it says there is a sum over the
examples. Keras' adaptive optimizers square what each lookup brings (`ops.square` of
`tf.IndexedSlices`), so that a lookup which each of N replicas has made must count once, with the
sum of what they found; one after the other, as TensorFlow gathers them, they are N lookups, whose
squares add up to less. A lookup of an example's own ids is one of its own on one machine, too.

Which it is stands in the graph: whether the ids come from the data.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence

import numpy as np
import tensorflow as tf

from tfdist.compat import tf_graphs
from tfdist.structures import Gradient
from tfdist.training.replica.replication import READS

__all__ = ["Lookup", "behind_each_other", "joined", "lookup_of", "once_each"]


class Lookup(enum.Enum):
    """Whose rows a sparse gradient names."""

    EXAMPLES = "each example's own"
    BATCH = "the batch's, the same on all replicas"
    LENGTH = "the batch's, as many as its examples are long"


_REPEATS = ("BroadcastTo", "Fill", "Tile")
_FAR = 500


def lookup_of(gradient: Gradient, rows: int | None = None) -> Lookup:
    """Tells whose rows a gradient names.

    Args:
        gradient: as a tape gives it, in the graph where its lookup was written.
        rows: of the replica that has made it, where that is known.

    Returns:
        EXAMPLES also for what is not sparse, and where nobody can tell.
    """
    if not isinstance(gradient, tf.IndexedSlices) or not tf_graphs.is_symbolic(gradient.indices):
        return Lookup.EXAMPLES
    found = _walk(gradient.indices)
    if found is Lookup.BATCH and _is_repeated(gradient.indices, rows):
        return Lookup.EXAMPLES
    return found


def _walk(indices: tf.Tensor) -> Lookup:
    """Follows ids to where they come from."""
    found, seen, waiting = Lookup.BATCH, set[int](), [indices]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or not tf_graphs.is_symbolic(one):
            continue
        seen.add(id(one))
        operation = one.op
        if operation.type == "Placeholder":
            outer = tf_graphs.captured(one)
            if outer is None:
                return Lookup.EXAMPLES
            waiting.append(outer)
        elif _is_of_a_length(operation):
            found = Lookup.LENGTH
        elif operation.type in READS:
            waiting += operation.inputs[1:]  # a variable's numbers are nobody's own
        elif operation.type in _REPEATS or operation.op_def.is_stateful or len(seen) > _FAR:
            return Lookup.EXAMPLES
        else:
            waiting += operation.inputs
    return found


def _is_of_a_length(operation: tf.Operation) -> bool:
    """Whether it is a size of a tensor that is not its first, which is that of the examples."""
    if operation.type != "StridedSlice" or operation.inputs[0].op.type != "Shape":
        return False
    begin = tf_graphs.constant_value(operation.inputs[1])
    if begin is None or begin.shape != (1,):
        return False
    rank = operation.inputs[0].op.inputs[0].shape.rank
    from_the_end = 0 if begin[0] >= 0 or rank is None else rank
    return bool(begin[0] + from_the_end > 0)


def _is_repeated(indices: tf.Tensor, rows: int | None) -> bool:
    """Whether constants are the same ids again and again, for each of so many examples."""
    known = tf_graphs.constant_value(indices)
    if known is None or rows is None or rows < 2 or not known.size or known.size % rows:
        return False
    by_row = known.reshape(rows, -1)
    return bool(np.array_equal(by_row, np.broadcast_to(by_row[0], by_row.shape)))


def once_each(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Returns the gradient with each row named once, and all that was brought for it added up."""
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def behind_each_other(gradients: Sequence[tf.IndexedSlices]) -> tf.IndexedSlices:
    """Returns sparse gradients of one variable as one, in their order."""
    values = tf.concat([one.values for one in gradients], 0)
    indices = tf.concat([one.indices for one in gradients], 0)
    return tf.IndexedSlices(values, indices, gradients[0].dense_shape)


def _are_of_one_list(gradients: Sequence[tf.IndexedSlices]) -> bool:
    """Whether lookups of ids that are nobody's own name the same rows, as far as is known."""
    first, *others = [tf_graphs.constant_value(one.indices) for one in gradients]
    if first is None:
        return not any(one is not None for one in others)
    return all(one is not None and np.array_equal(first, one) for one in others)


def joined(gradients: Sequence[tf.IndexedSlices], lookups: Collection[Lookup]) -> tf.IndexedSlices:
    """Returns the sum of sparse gradients of one variable by several parts of a batch.

    Args:
        gradients: by each part.
        lookups: whose rows they name.
    """
    if set(lookups) == {Lookup.BATCH} and _are_of_one_list(gradients):
        values = tf.add_n([one.values for one in gradients])
        return tf.IndexedSlices(values, gradients[0].indices, gradients[0].dense_shape)
    whole = behind_each_other(gradients)
    return once_each(whole) if set(lookups) == {Lookup.LENGTH} else whole
