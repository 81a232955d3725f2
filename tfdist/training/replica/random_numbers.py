"""Random numbers by row of the global batch: N replicas draw what one machine draws.

`keras.random`, the layers of Keras and `tf.random.stateless_*` all end in a few counter-based
operations of TensorFlow: with the algorithm Philox (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", 2011), value i of a tensor depends on the seed and on i alone, four (of 64 bits:
two) to a counter. So a replica that begins to count at its first row draws exactly its own rows of
the tensor that one machine would draw, at no cost.

Which draws have rows is told by the shape: one whose first dimension is the replica's number of
rows, or a multiple of it. A multiple is taken for rows that were cut (a reshape of `[rows,
steps]`), unless the shape is that of batches one behind the other (real and generated images). All
other shapes (the noise of a gradient) are drawn alike on all replicas, as are all seeds.

Stateful operations (`tf.random.normal`) keep a state of their own on each replica: they draw other
numbers on each, and never those of one machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat import keras_layers, patches, tf_graphs
from tfdist.compat.patches import Patches
from tfdist.structures import Count
from tfdist.training.replica.reductions import flow_of
from tfdist.training.replica.replication import Kind
from tfdist.training.replica.step import ReplicaStep, current

__all__ = ["PATCHES", "seeds_of_this_thread"]

_SEED_STRIDE = 1_000_003
"""A prime, so that the seeds of the replicas do not meet those of the next operations."""

_SEEDS = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a replica's numbers are in the tensor that one machine would draw.

    Attributes:
        start: int64 scalar: the first row.
        total: int64 scalar: rows of the whole.
        blocks: int64 scalar: as many batches lie one behind the other; None for one.
        rows: int64 scalar: of each block, this replica's.
    """

    start: tf.Tensor
    total: tf.Tensor
    blocks: tf.Tensor | None
    rows: tf.Tensor


def _place_of(shape: tf.Tensor) -> _Place | None:
    """Returns where a draw of this shape belongs; None where all replicas draw the same."""
    step = current()
    if step is None or step.rows is None or step.draws_alike:
        return None
    rows = step.rows
    shape = tf.convert_to_tensor(shape)
    known = _known(shape)
    if known is not None and len(known) == 0:
        return None
    are_blocks = False
    if known is not None and known[0] is not None:
        count = int(known[0])
        if rows.static is None or count == 0 or count % rows.static:
            return None
        sizes = [size or 0 for size in known]
        if tf.executing_eagerly() and (
            count != rows.static or (step.has_variable_of(sizes) and not keras_layers.is_called())
        ):
            return None  # nothing else tells the noise of a gradient from the rows'
        times = tf.constant(count // rows.static, tf.int64)
        are_blocks = count != rows.static and _has_blocks_of(known)
    elif step.replication.peek(shape) is Kind.REPLICATED:
        return None  # of what was gathered
    else:
        length = tf.cast(shape[0], tf.int64)
        times = length // rows.count
        if not _is_of_blocks(shape):
            whole = tf.logical_and(tf.equal(times * rows.count, length), times > 0)
            start = tf.where(whole, rows.start * times, 0)
            return _Place(start, tf.where(whole, rows.total * times, length), None, length)
    if are_blocks or _is_of_blocks(shape):
        return _Place(rows.start, rows.total, times, rows.count)
    return _Place(rows.start * times, rows.total * times, None, rows.count * times)


def _known(shape: tf.Tensor) -> Sequence[int | None] | None:
    """The numbers of a shape, as far as they are known when the step is traced.

    TensorFlow's Python does not see all that is constant, as a part of a constant; its inference of
    shapes does.
    """
    known: Sequence[int | None] | None = tf.get_static_value(shape, partial=True)
    if tf_graphs.is_symbolic(shape) and (known is None or None in list(known)):
        found = tf.fill(shape, False).shape
        known = known if found.rank is None else found.as_list()
    return known


_ALONG = ("Cast", "ConcatV2", "Identity", "Mul", "Pack", "Reshape", "Squeeze", "StridedSlice")


def _is_of_blocks(shape: tf.Tensor) -> bool:
    """Whether a shape is that of a tensor of several batches, one behind the other."""
    if not tf_graphs.is_symbolic(shape):
        return False
    waiting, seen = [shape], 0
    while waiting and seen < _FAR:
        seen += 1
        operation = waiting.pop().op
        if operation.type == "Shape" and _begins_with_blocks(operation.inputs[0]):
            return True
        if operation.type in _ALONG and operation.inputs:
            first = operation.type in ("StridedSlice", "Reshape")
            waiting += operation.inputs[:1] if first else operation.inputs
    return False


_FAR = 200


def _has_blocks_of(sizes: Sequence[int | None]) -> bool:
    """Whether what has these sizes, or as many rows, is of several batches, one behind the other.

    A shape of numbers alone does not tell; the newest tensor in the graph that has it does.
    """
    if tf.executing_eagerly():
        return False
    operations = tf.compat.v1.get_default_graph().get_operations()
    made = [tensor for operation in reversed(operations) for tensor in operation.outputs]
    for wanted in (list(sizes), list(sizes[:1])):
        for tensor in made:
            own = tensor.shape.as_list() if tensor.shape.rank else []
            if own == wanted or (len(wanted) == 1 and own[:1] == wanted):
                found = _begins_with_blocks(tensor)
                if found is not None:
                    return found
    return False


def _begins_with_blocks(tensor: tf.Tensor) -> bool | None:
    """Whether a tensor is of several batches, one behind the other; None where nothing tells."""
    for _ in range(_FAR):
        operation = tensor.op
        if operation.type == "Tile" or (operation.type == "ConcatV2" and _joins_rows(operation)):
            return True
        if not operation.inputs:
            return None
        source = _with_the_rows(tensor)
        if operation.type == "Reshape" and source.op.type == "Pack":
            return bool(source.op.get_attr("axis") == 0)
        if operation.type == "Reshape" and _entries(source) != _entries(tensor):
            return False  # rows were cut
        tensor = source
    return None


def _with_the_rows(tensor: tf.Tensor) -> tf.Tensor:
    """What a tensor's operation was given that has its rows: not a factor in front of it."""
    inputs = list(tensor.op.inputs)
    full = [one for one in inputs if one.shape.rank == tensor.shape.rank and one.shape[:1] != [1]]
    return (full or [one for one in inputs if one.shape.rank != 0] or inputs)[0]


def _joins_rows(concat: tf.Operation) -> bool:
    """Whether tensors are put together one behind the other, and not beside each other."""
    axis, rank = tf.get_static_value(concat.inputs[-1]), concat.outputs[0].shape.rank
    return axis is not None and int(axis) in (0, -(rank or -1))


def _entries(tensor: tf.Tensor) -> int | None:
    """Numbers in a row of a tensor, where that is known."""
    return tensor.shape[1:].num_elements() if tensor.shape.rank else None


def _drawn(tensor: tf.Tensor) -> tf.Tensor:
    """Notes that replicas draw different rows of the same numbers."""
    step = current()
    if step is not None:
        step.replication.mark([tensor], Kind.RANDOM)
        step.in_rows(tensor)
    return tensor


def _cut(
    draw: Callable[..., tf.Tensor], place: _Place, shape: tf.Tensor, key: tf.Tensor
) -> tf.Tensor:
    """Draws all rows of all replicas, and returns this one's.

    XLA wants to know all shapes beforehand, and nobody knows the rows of the whole then: under it
    the replicas draw by keys of their own.
    """
    step = current()
    if step is not None and _is_compiled():
        return _drawn(draw(shape, _own_seed(step, key)))
    rest = tf.cast(shape, tf.int64)[1:]
    blocks = tf.constant(1, tf.int64) if place.blocks is None else place.blocks
    whole = draw(tf.concat([[blocks * place.total], rest], 0), key)
    whole = tf.reshape(whole, tf.concat([tf.stack([blocks, place.total]), rest], 0))
    return _drawn(tf.reshape(whole[:, place.start : place.start + place.rows], shape))


_ONE_BY_ONE = ("uniform", "uniform_int", "uniform_full_int")
"""What XLA, too, draws value by value; of its normal numbers two are made together."""


def _is_compiled() -> bool:
    step = current()
    return step is not None and step.postponed is not None


def _counted(name: str, counters: int | None = None) -> Callable[..., tf.Tensor]:
    """An operation that draws value i of a tensor from the i-th part of its counters.

    Args:
        name: of the point.
        counters: how many each value has; None where several values share one.
    """

    def draw(
        shape: tf.Tensor, key: tf.Tensor, counter: tf.Tensor, alg: Count, *args: Any, **kwargs: Any
    ) -> tf.Tensor:
        whole = patches.original(name)
        place = _place_of(shape)
        if place is None:
            return whole(shape, key, counter, alg, *args, **kwargs)
        if place.blocks is not None or (_is_compiled() and name not in _ONE_BY_ONE):
            return _cut(
                lambda rows, own: whole(rows, own, counter, alg, *args, **kwargs), place, shape, key
            )
        start = place.start * tf.reduce_prod(tf.cast(shape, tf.int64)[1:])
        if counters is not None:
            counter = counter + tf.cast(tf.stack([start * counters, 0]), tf.uint64)
            return _drawn(whole(shape, key, counter, alg, *args, **kwargs))
        group = 2 if _dtype_of(args, kwargs).size == 8 else 4
        counter = counter + tf.cast(tf.stack([start // group, 0]), tf.uint64)
        size = tf.reduce_prod(tf.cast(shape, tf.int32))
        # All of a first group is drawn, though the rows may begin inside of it.
        flat = whole(tf.reshape(size + group - 1, [1]), key, counter, alg, *args, **kwargs)
        skipped = tf.cast(start % group, tf.int32)
        return _drawn(tf.reshape(tf.slice(flat, [skipped], [size]), shape))

    return draw


def _dtype_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tf.DType:
    given = kwargs.get("dtype", kwargs.get("minval", args[0] if args else tf.float32))
    return given.dtype if tf.is_tensor(given) else tf.as_dtype(given)


def _truncated_normal(
    shape: tf.Tensor, key: tf.Tensor, *args: object, **kwargs: object
) -> tf.Tensor:
    """Draws all rows, and keeps its own: it takes more numbers where some are rejected."""
    whole = patches.original("truncated_normal")
    place = _place_of(shape)
    if place is None:
        return whole(shape, key, *args, **kwargs)
    return _cut(lambda rows, own: whole(rows, own, *args, **kwargs), place, shape, key)


def _by_seed(name: str, *, takes_logits: bool = False) -> Callable[..., tf.Tensor]:
    """An operation whose values depend on more than their place: other seeds on each replica."""

    def draw(
        shape: tf.Tensor,
        second: Count,
        third: tf.Tensor | None = None,
        *rest: object,
        **named: object,
    ) -> tf.Tensor:
        whole = patches.original(name)
        step = current()
        if step is None or _place_of(tf.shape(shape) if takes_logits else shape) is None:
            return whole(shape, second, third, *rest, **named)
        if takes_logits:
            third = _own_seed(step, third)
        else:
            second = _own_seed(step, second)
        return _drawn(whole(shape, second, third, *rest, **named))

    return draw


def _own_seed(step: ReplicaStep, seed: tf.Tensor) -> tf.Tensor:
    seed = tf.convert_to_tensor(seed)
    offset = tf.cast(step.replica, seed.dtype) * tf.constant(_SEED_STRIDE, seed.dtype)
    return seed + tf.pad(offset[None], [[0, tf.size(seed) - 1]])


def _get_seed(op_seed: int | None) -> tuple[int | None, int | None]:
    """The seeds of a stateful operation; workers would all draw the same without this."""
    seeds = patches.original("get_seed")(op_seed)
    step = current()
    replica = 0 if step is None else tf.get_static_value(step.replica) or 0
    if not replica or None in seeds:
        return seeds
    return seeds[0], (seeds[1] + replica * _SEED_STRIDE) % _SEEDS


_seeds: list[keras.random.SeedGenerator] = []
"""Keras' own generators of the threads that trace steps; the last one counts."""


@contextlib.contextmanager
def seeds_of_this_thread() -> Iterator[None]:
    """Has replicas draw from the generator that `keras.random` uses in this thread without a seed.

    Keras keeps one a thread, and replicas have threads of their own.
    """
    _seeds.append(patches.original("global_seeds")())
    try:
        yield
    finally:
        _seeds.pop()


def _global_seeds() -> keras.random.SeedGenerator:
    return _seeds[-1] if current() is not None and _seeds else patches.original("global_seeds")()


def _dropout(x: tf.Tensor, *args: object, **kwargs: object) -> tf.Tensor:
    """Drops weights alike on all replicas, as many as they are: they are no rows."""
    step = current()
    drop = patches.original("dropout")
    if step is None:
        return drop(x, *args, **kwargs)
    x = tf.convert_to_tensor(x)
    is_weight = tf_graphs.is_symbolic(x) and not flow_of(step, x).varies
    outer, step.draws_alike = step.draws_alike, is_weight
    try:
        return drop(x, *args, **kwargs)
    finally:
        step.draws_alike = outer


PATCHES = Patches(
    {
        "dropout": _dropout,
        "global_seeds": _global_seeds,
        "uniform": _counted("uniform"),
        "uniform_int": _counted("uniform_int"),
        "uniform_full_int": _counted("uniform_full_int"),
        "normal": _counted("normal"),
        "truncated_normal": _truncated_normal,
        "gamma": _counted("gamma", counters=256),
        "categorical": _by_seed("categorical", takes_logits=True),
        "binomial": _by_seed("binomial"),
        "poisson": _by_seed("poisson"),
        "get_seed": _get_seed,
    }
)
