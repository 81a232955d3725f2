"""Arrays that lie on the replicas' GPUs, as a whole: a step takes its rows there.

Only the numbers of the rows then travel to a GPU at every step, in the order that Keras draws. It
is done for arrays that are small beside a GPU's memory, and given as arrays; batches of everything
else travel one step ahead (`synchronous.step_loop`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdist import log, process
from tfdist.errors import DataError
from tfdist.structures import Nest
from tfdist.training.data.stream import Step, leaves, map_leaves

__all__ = ["HOST", "MOST_BYTES", "Held", "places", "put_on", "rows_of", "specs_of"]

HOST = "CPU:0"
"""Where arrays lie whose rows are taken by number although there is no GPU."""

MOST_BYTES = 1 << 30
"""Arrays of at most so many bytes are put on each GPU, where nobody has said what to do."""

_PART = 10  # at most a tenth of the memory that a task may use of its GPU

_AS_IT_IS = (tf.bfloat16, tf.float16, tf.float32, tf.float64, tf.int64, tf.bool)
_STORED: Mapping[str, tf.DType] = {
    **{kind.name: kind for kind in _AS_IT_IS},
    # TensorFlow gathers no rows of these on a GPU, or keeps them with the host: they lie there as
    # what holds each of their values.
    "uint8": tf.float16,
    "int8": tf.float16,
    "uint16": tf.float32,
    "int16": tf.float32,
    "uint32": tf.int64,
    "int32": tf.int64,
}


class Held(NamedTuple):
    """The arrays on one GPU, in the structure in which they were given.

    Attributes:
        values: their rows, of a type that TensorFlow gathers there; None for what is absent.
        like: no rows, of the arrays' own types.
    """

    values: Nest
    like: Nest


def put_on(devices: Sequence[str], arrays: Nest, wanted: bool | None) -> tuple[Held, ...]:
    """Puts arrays on each of these devices.

    Args:
        devices: of this process's replicas.
        arrays: arrays or tensors in the host's memory, in any structure; None for what is absent.
        wanted: True whatever their size, False never, None where they are small.

    Returns:
        For each device the arrays there; nothing where they stay with the host.

    Raises:
        DataError: they were wanted there, and cannot be.
    """
    if wanted is False:
        return ()
    if why := _why_not(devices, arrays, wanted):
        if wanted:
            raise DataError(f"data_on_device=True, but {why}; leave it out, or give None")
        return ()
    try:
        return tuple(_copy(arrays, device) for device in devices)
    except tf.errors.ResourceExhaustedError as error:
        if wanted:
            raise DataError(
                "data_on_device=True, but the GPU's memory does not hold the arrays: "
                f"{error.message}"
            ) from error
        log.warning("the arrays stay in the host's memory: the GPU's is full")
        return ()


def places(gpus: Sequence[str], arrays: Sequence[Held]) -> Sequence[str]:
    """Where arrays lie: on these GPUs, or with the host where there are none."""
    return gpus or [HOST] * len(arrays)


def rows_of(step: Step, arrays: Sequence[Held], devices: Sequence[str]) -> Step:
    """Returns the step whose rows are gathered on the devices, in a graph or outside.

    Args:
        step: with numbers of rows as its parts.
        arrays: from `put_on`.
        devices: the same.
    """
    parts = []
    for numbers, there, device in zip(step.parts, arrays, devices, strict=True):
        with tf.device(device):
            parts.append(_gathered(there, numbers))
    return step._replace(parts=tuple(parts))


def specs_of(step: Step, arrays: Sequence[Held]) -> Step:
    """Returns the specs of `rows_of` a step, from the step's own specs."""
    parts = []
    for numbers, held in zip(step.parts, arrays, strict=True):
        spec = functools.partial(_spec, numbers.shape[0])
        parts.append(tf.nest.map_structure(spec, held.values, held.like))
    return step._replace(parts=tuple(parts))


def _spec(rows: int | None, values: tf.Tensor | None, like: tf.Tensor) -> tf.TensorSpec | None:
    return None if values is None else tf.TensorSpec([rows, *values.shape[1:]], like.dtype)


def _gathered(held: Held, numbers: tf.Tensor) -> Nest:
    def rows(values: tf.Tensor | None, like: tf.Tensor) -> tf.Tensor | None:
        return None if values is None else tf.cast(tf.gather(values, numbers, axis=0), like.dtype)

    return tf.nest.map_structure(rows, held.values, held.like)


def _copy(arrays: Nest, device: str) -> Held:
    with tf.device("CPU:0"):
        values = map_leaves(lambda one: tf.cast(one, _STORED[one.dtype.name]), arrays)
        like = map_leaves(lambda one: tf.zeros([0], one.dtype), arrays)
    with tf.device(device):
        return Held(map_leaves(tf.identity, values), like)


def _why_not(devices: Sequence[str], arrays: Nest, wanted: bool | None) -> str:
    there = leaves(arrays)
    if not devices:
        return "no replica of this process computes on a GPU"
    if not all(isinstance(one, tf.Tensor | np.ndarray) for one in there):
        return "only dense arrays can lie there"
    if others := sorted({one.dtype.name for one in there} - set(_STORED)):
        return f"TensorFlow does not take rows of {' or '.join(others)} on a GPU"
    memory = process.gpu_memory()
    most = MOST_BYTES if memory is None else min(MOST_BYTES, (memory << 20) // _PART)
    size = sum(math.prod(one.shape) * _STORED[one.dtype.name].size for one in there)
    return "" if wanted or size <= most else f"their {size} bytes are more than {most}"
