"""What makes the parts of a batch, each computed by itself, equal to the whole batch.

As with replicas (`losses`), each part computes its loss as one machine would on its own examples,
and weighs by its share of the batch. What divides by something of the whole batch that no part
knows (the valid steps of a mask, the sum of sample weights) is found beforehand, by a rehearsal of
the loss on the whole batch (a pipeline's, of its microbatches), and then used in every part's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf

from tfdist.compat import keras_trainer, patches
from tfdist.errors import PlugError
from tfdist.structures import Count, Nest
from tfdist.training.replica.row_sums import is_row_sum

__all__ = ["Totals", "part_of_batch"]


@dataclasses.dataclass
class Totals:
    """What the losses of the whole batch divide by, in the order in which they ask.

    Attributes:
        found: of masks, `(entries, valid entries)`; of weights, their sum.
        known: whether there was a rehearsal; else parts whose losses ask for them are refused.
    """

    found: list[tf.Tensor] = dataclasses.field(default_factory=list)
    known: bool = True


class _Current(threading.local):
    share: tf.Tensor | None = None
    totals: Totals | None = None
    asked: int = 0


_current = _Current()


@contextlib.contextmanager
def part_of_batch(share: tf.Tensor | None, totals: Totals) -> Iterator[None]:
    """Has the loss that is computed in the block be that of a part of the batch.

    Args:
        share: float64 scalar: the part's rows over the batch's; None rehearses the loss of
            the whole batch, and notes in `totals` what it divides by.
        totals: what the rehearsal has found.

    Raises:
        PlugError: the loss divides by what nobody knows.
    """
    before = (_current.share, _current.totals, _current.asked)
    _current.share, _current.totals, _current.asked = share, totals, 0
    try:
        with _PATCHES:
            yield
    finally:
        _current.share, _current.totals, _current.asked = before


def _next(found: Callable[[], tf.Tensor]) -> tf.Tensor | None:
    """Notes a total in a rehearsal; else returns the one that the rehearsal has found here."""
    assert _current.totals is not None
    if _current.share is None:
        _current.totals.found.append(found())
        return None
    if not _current.totals.known:
        raise PlugError(
            "a loss over the steps that a mask leaves, or divided by the sum of sample weights, "
            "but a part of a batch does not know those of the others: leave mask_zero and Masking "
            "out, or leave backup_workers out"
        )
    _current.asked += 1
    return _current.totals.found[_current.asked - 1]


def _of_the_batch(part: tf.Tensor) -> tf.Tensor:
    """A part of the whole batch's loss, as the share that it will be weighed by makes of it."""
    return tf.math.divide_no_nan(part, tf.cast(_current.share, part.dtype))


def _apply_mask(
    sample_weight: tf.Tensor | None, mask: tf.Tensor | None, dtype: str, reduction: str | None
) -> tf.Tensor | None:
    if _current.totals is None or mask is None or reduction not in ("mean", "sum_over_batch_size"):
        return patches.original("apply_mask")(sample_weight, mask, dtype, reduction)
    valid = tf.cast(tf.convert_to_tensor(mask), "bool")
    total = _next(
        lambda: tf.math.divide_no_nan(
            tf.cast(tf.size(valid), dtype), tf.math.count_nonzero(valid, dtype=dtype)
        )
    )
    if total is None:
        return patches.original("apply_mask")(sample_weight, mask, dtype, reduction)
    return keras_trainer.weights_by_mask(sample_weight, valid, tf.cast(total, dtype), dtype)


def _reduce_values(
    values: tf.Tensor,
    sample_weight: tf.Tensor | None = None,
    reduction: str | None = "sum_over_batch_size",
) -> tf.Tensor:
    original = patches.original("reduce_values")
    if _current.totals is None or values.shape.rank == 0:
        return original(values, sample_weight, reduction)
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        total = _next(lambda: tf.reduce_sum(sample_weight))
        if total is not None:
            part = tf.math.divide_no_nan(tf.reduce_sum(values), tf.cast(total, values.dtype))
            return _of_the_batch(part)
    elif reduction == "sum" and _current.share is not None:
        return _of_the_batch(tf.reduce_sum(values))
    return original(values, sample_weight, reduction)


def _average_loss(
    per_example_loss: tf.Tensor,
    sample_weight: tf.Tensor | None = None,
    global_batch_size: Count | None = None,
) -> tf.Tensor:
    """`tf.nn.compute_average_loss`, which may be told the whole batch's size."""
    loss = patches.original("average_loss")(per_example_loss, sample_weight, global_batch_size)
    if _current.share is None or tf.get_static_value(global_batch_size) is None:
        return loss  # none, or made of the part's own rows
    return _of_the_batch(loss)


def _samplewise_values(
    values: tf.Tensor | float, sample_weight: tf.Tensor | None, reduce_fn: object, dtype: str
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """A scalar given to a Mean or Sum metric stands for the batch: it counts by the share."""
    scalar = len(getattr(values, "shape", (1,))) == 0
    if _current.share is not None and sample_weight is None and scalar:
        _check_is_no_sum(values)
        sample_weight = tf.cast(_current.share, dtype)
    return patches.original("samplewise_values")(values, sample_weight, reduce_fn, dtype)


def _tape_gradient(
    self: tf.GradientTape, target: Nest, sources: Nest, *args: object, **named: object
) -> Nest:
    """`tf.GradientTape.gradient`, of what may be weighted by the share."""
    if _current.totals is not None and not _current.totals.known:
        for one in tf.nest.flatten(target):
            if isinstance(one, tf.Tensor) and one.shape.rank != 0:
                raise PlugError(
                    "train_step takes gradients of a loss that has a number for each row, but a "
                    "part of a batch is weighted by its share of the rows: give a mean over them "
                    "(tf.reduce_mean), or leave backup_workers out"
                )
            _check_is_no_sum(one)
    return patches.original("tape_gradient")(self, target, sources, *args, **named)


def _check_is_no_sum(value: object) -> None:
    known = _current.totals is None or _current.totals.known
    if not known and isinstance(value, tf.Tensor) and is_row_sum(value):
        raise PlugError(
            f"{value.name} is a sum over rows that train_step makes itself, but a part of a batch "
            "is weighted by its share of the rows: give a mean over them (tf.reduce_mean), or a "
            "keras.losses.Loss with reduction='sum', or leave backup_workers out"
        )


_PATCHES = patches.Patches(
    {
        "apply_mask": _apply_mask,
        "reduce_values": _reduce_values,
        "average_loss": _average_loss,
        "samplewise_values": _samplewise_values,
        "tape_gradient": _tape_gradient,
    }
)
