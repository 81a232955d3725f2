"""A loop of steps as one TensorFlow program.

On a CPU a step takes its batch when it begins. On a GPU the next batch travels there, or is
gathered there, while a step computes: it is taken one turn of the loop before. The loop takes no
batch more than its steps, so that the position in the data is exact after it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from tfdist.strategies import step_clock
from tfdist.structures import Nest, Traced
from tfdist.training.data import resident
from tfdist.training.data.stream import Step, rows_in
from tfdist.training.tracing import traced

__all__ = ["logs_of", "spec_like", "step_loop", "taken"]

Logs: TypeAlias = dict[str, tf.Tensor]


def taken(step: Step) -> tuple[Nest, ...]:
    """What a step's function takes of a `Step`, or of its specs."""
    return step.parts, step.shares, step.starts, step.sizes, step.total


def spec_like(step: Step, spec: Step) -> Step:
    """The specs of a `Step` and of those of its stream that have other numbers of rows."""

    def one(value: tf.Tensor, declared: tf.TypeSpec) -> tf.TypeSpec:
        if not isinstance(declared, tf.TensorSpec):
            return declared
        rows = declared.shape[0] if declared.shape.rank else None
        return tf.TensorSpec([rows, *value.shape[1:]], declared.dtype)

    return spec._replace(parts=tf.nest.map_structure(one, step.parts, spec.parts))


def step_loop(one: Traced, gpus: Sequence[str], alone: bool) -> Traced:
    """Returns what takes some steps; see `Programs.loop`.

    Args:
        one: takes one of these steps.
        gpus: of this process's replicas; none where some replica has no GPU of its own.
        alone: whether one replica takes whole batches, whose rows nobody has counted.
    """
    how = _ahead if gpus else _in_turn
    return traced(functools.partial(how, one, gpus, alone), reduce_retracing=True)


def _in_turn(
    one: Traced,
    gpus: Sequence[str],
    alone: bool,
    iterator: tf.data.Iterator,
    steps: tf.Tensor,
    arrays: tuple[resident.Held, ...],
) -> tuple[Logs, tf.Tensor, tf.Tensor]:
    spec = iterator.element_spec
    if arrays:
        spec = resident.specs_of(spec, arrays)
    no_logs, shapes = logs_of(one, spec)

    def body(i: tf.Tensor, counts: tf.Tensor, _: Logs) -> tuple[tf.Tensor, tf.Tensor, Logs]:
        step = step_clock.next_batch(iterator)
        if arrays:  # which lay on GPUs when the position was saved
            step = resident.rows_of(step, arrays, resident.places(gpus, arrays))
        return i + 1, counts + _counts(step, alone), one(*taken(step))

    none = _no_counts(alone)
    _, counts, logs = tf.while_loop(
        lambda i, *_: i < steps,
        body,
        (tf.constant(0), none, no_logs),
        shape_invariants=(tf.TensorShape([]), none.shape, shapes),
        parallel_iterations=1,
    )
    return logs, *_apart(counts, alone)


def _ahead(
    one: Traced,
    gpus: Sequence[str],
    alone: bool,
    iterator: tf.data.Iterator,
    steps: tf.Tensor,
    arrays: tuple[resident.Held, ...],
) -> tuple[Logs, tf.Tensor, tf.Tensor]:
    def fetch() -> Step:
        step = step_clock.next_batch(iterator)
        return resident.rows_of(step, arrays, gpus) if arrays else _sent(step, gpus)

    first = fetch()
    spec = iterator.element_spec
    if arrays:
        spec = resident.specs_of(spec, arrays)
    no_logs, shapes = logs_of(one, spec)
    batch_shapes = [tf.TensorShape(leaf.shape) for leaf in _flat(spec)]

    def step_of(flat: Sequence[tf.Tensor]) -> Step:
        return tf.nest.pack_sequence_as(first, list(flat), expand_composites=True)

    def body(
        i: tf.Tensor, counts: tf.Tensor, flat: list[tf.Tensor], _: Logs
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor], Logs]:
        step = step_of(flat)
        with tf.device("CPU:0"):  # where its numbers are: no kernel on the GPU for these
            counts += _counts(step, alone)
        return i + 1, counts, _flat(fetch()), one(*taken(step))

    none = _no_counts(alone)
    _, counts, flat, _ = tf.while_loop(
        lambda i, *_: i < steps - 1,
        body,
        (tf.constant(0), none, _flat(first), no_logs),
        shape_invariants=(tf.TensorShape([]), none.shape, batch_shapes, shapes),
        parallel_iterations=1,
    )
    last = step_of(flat)
    counts += _counts(last, alone)
    return one(*taken(last)), *_apart(counts, alone)


# What is summed over the steps is one variable of the loop: each costs microseconds at every step.


def _no_counts(alone: bool) -> tf.Tensor:
    return tf.zeros([] if alone else [2], tf.int64)


def _counts(step: Step, alone: bool) -> tf.Tensor:
    """Rows of the global batch; before them the fingerprint, where there are others."""
    return rows_in(step.parts[0]) if alone else tf.stack([step.fingerprint, step.total])


def _apart(counts: tf.Tensor, alone: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """The sum of the fingerprints, and that of the rows."""
    return (tf.zeros((), tf.int64), counts) if alone else (counts[0], counts[1])


def logs_of(one: Traced, spec: Step) -> tuple[Logs, dict[str, tf.TensorShape]]:
    """Zeros like a step's logs, and their shapes."""
    logs = one.get_concrete_function(*taken(spec)).structured_outputs
    zeros = {
        name: tf.zeros([size or 0 for size in value.shape], value.dtype)
        for name, value in logs.items()
    }
    return zeros, {name: value.shape for name, value in logs.items()}


def _sent(step: Step, gpus: Sequence[str]) -> Step:
    """The same step, its rows on the replicas' GPUs."""
    parts = []
    for part, gpu in zip(step.parts, gpus, strict=True):
        with tf.device(gpu):
            flat = [tf.identity(leaf) if _travels(leaf) else leaf for leaf in _flat(part)]
        parts.append(tf.nest.pack_sequence_as(part, flat, expand_composites=True))
    return step._replace(parts=tuple(parts))


def _travels(leaf: tf.Tensor) -> bool:
    """Whether TensorFlow keeps such a tensor on a GPU."""
    return leaf.dtype not in (tf.int32, tf.string, tf.variant, tf.resource)


def _flat(nest: Nest) -> list[Any]:
    return tf.nest.flatten(nest, expand_composites=True)
