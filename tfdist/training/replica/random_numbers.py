"""Random numbers by row of the global batch: N replicas draw what one machine draws.

`keras.random`, the layers of Keras and `tf.random.stateless_*` all end in a few counter-based
operations of TensorFlow: with the algorithm Philox (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", 2011), value i of a tensor depends on the seed and on i alone, four (of 64 bits:
two) to a counter. So a replica that begins to count at its first row draws exactly its own rows of
the tensor that one machine would draw, at no cost.

Which draws have rows is told by the shape: one whose first dimension is the replica's number of
rows, or a multiple of it. All other shapes (the noise of a gradient) are drawn alike on all
replicas, as are all seeds.

Stateful operations (`tf.random.normal`) keep a state of their own on each replica: they draw other
numbers on each, and never those of one machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdist import internals
from tfdist.training.replica.step import ReplicaStep, Rows, current

__all__ = ["REPLACEMENTS"]

_SEED_STRIDE = 1_000_003
"""A prime, so that the seeds of the replicas do not meet those of the next operations."""

_SEEDS = 2**31 - 1


def _first_row(shape: Any, rows: Rows) -> tuple[Any, Any] | None:
    """Finds where a replica's rows begin in the tensor that one machine would draw.

    Returns:
        The first row, and the rows of the whole, int64 scalars; None where the shape has no rows.
    """
    known = tf.get_static_value(shape, partial=True)
    if known is not None and len(known) == 0:
        return None
    count: Any = None if known is None else known[0]
    if count is not None:
        if rows.static is None or int(count) % rows.static:
            return None
        times = tf.constant(int(count) // rows.static, tf.int64)
        return rows.start * times, rows.total * times
    count = tf.cast(shape[0], tf.int64)
    times = count // rows.count
    has_rows = tf.logical_and(tf.equal(times * rows.count, count), count > 0)
    return tf.where(has_rows, rows.start * times, 0), tf.where(has_rows, rows.total * times, count)


def _counted(name: str) -> Callable[..., Any]:
    """An operation that draws value i of a tensor from the i-th part of its counters."""

    def draw(shape: Any, key: Any, counter: Any, alg: Any, *args: Any, **kwargs: Any) -> Any:
        whole = internals.original(name)
        step = current()
        found = _rows_of(step, shape)
        if found is None:
            return whole(shape, key, counter, alg, *args, **kwargs)
        sizes = tf.cast(shape, tf.int64)
        start = found[0] * tf.reduce_prod(sizes[1:])
        dtype = _dtype_of(args, kwargs)
        group = 2 if dtype.size == 8 else 4
        counter = counter + tf.cast(tf.stack([start // group, 0]), tf.uint64)
        size = tf.reduce_prod(tf.cast(shape, tf.int32))
        # All of a first group is drawn, though the rows may begin inside of it.
        flat = whole(tf.reshape(size + group - 1, [1]), key, counter, alg, *args, **kwargs)
        skipped = tf.cast(start % group, tf.int32)
        return tf.reshape(tf.slice(flat, [skipped], [size]), shape)

    return draw


def _dtype_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tf.DType:
    given = kwargs.get("dtype", kwargs.get("minval", args[0] if args else tf.float32))
    return given.dtype if tf.is_tensor(given) else tf.as_dtype(given)


def _rows_of(step: ReplicaStep | None, shape: Any) -> tuple[Any, Any] | None:
    if step is None or step.rows is None:
        return None
    return _first_row(tf.convert_to_tensor(shape), step.rows)


def _truncated_normal(
    shape: Any, key: Any, counter: Any, alg: Any, *args: Any, **kwargs: Any
) -> Any:
    """Draws all rows, and keeps its own: it takes more numbers where some are rejected."""
    whole = internals.original("truncated_normal")
    found = _rows_of(current(), shape)
    if found is None:
        return whole(shape, key, counter, alg, *args, **kwargs)
    start, total = found
    sizes = tf.cast(shape, tf.int64)
    drawn = whole(tf.concat([total[None], sizes[1:]], 0), key, counter, alg, *args, **kwargs)
    return tf.reshape(drawn[start : start + sizes[0]], shape)


def _by_seed(name: str, *, takes_logits: bool = False) -> Callable[..., Any]:
    """An operation whose values depend on more than their place: other seeds on each replica."""

    def draw(shape: Any, second: Any, third: Any = None, *args: Any, **kwargs: Any) -> Any:
        whole = internals.original(name)
        step = current()
        rows = tf.shape(shape) if takes_logits else shape
        if step is None or _rows_of(step, rows) is None:
            return whole(shape, second, third, *args, **kwargs)
        if takes_logits:
            third = _own_seed(step, third)
        else:
            second = _own_seed(step, second)
        return whole(shape, second, third, *args, **kwargs)

    return draw


def _own_seed(step: ReplicaStep, seed: Any) -> Any:
    seed = tf.convert_to_tensor(seed)
    offset = tf.cast(step.replica, seed.dtype) * tf.constant(_SEED_STRIDE, seed.dtype)
    return seed + tf.pad(offset[None], [[0, tf.size(seed) - 1]])


def _get_seed(op_seed: Any) -> Any:
    """The seeds of a stateful operation; workers would all draw the same without this."""
    seeds = internals.original("get_seed")(op_seed)
    step = current()
    replica = 0 if step is None else tf.get_static_value(step.replica) or 0
    if not replica or None in seeds:
        return seeds
    return seeds[0], (seeds[1] + replica * _SEED_STRIDE) % _SEEDS


REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "uniform": _counted("uniform"),
    "uniform_int": _counted("uniform_int"),
    "uniform_full_int": _counted("uniform_full_int"),
    "normal": _counted("normal"),
    "truncated_normal": _truncated_normal,
    "gamma": _by_seed("gamma"),
    "categorical": _by_seed("categorical", takes_logits=True),
    "binomial": _by_seed("binomial"),
    "poisson": _by_seed("poisson"),
    "get_seed": _get_seed,
}
