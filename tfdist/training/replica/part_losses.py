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
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from tfdist.compat import keras_trainer, patches, tf_graphs
from tfdist.errors import PlugError
from tfdist.structures import Count, Nest
from tfdist.training.replica import row_entries
from tfdist.training.replica.row_flow import RowFlow
from tfdist.training.replica.row_rules import RULES
from tfdist.training.replica.terms import Terms

__all__ = ["Totals", "is_sum", "part_of_batch", "weighed"]

_CURE = "write a train_step of your own, which sees the whole batch"


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
    terms: Terms | None = None
    means: dict[int, tf.Tensor] | None = None
    rows: dict[int, tf.Tensor] | None = None


_current = _Current()


@contextlib.contextmanager
def part_of_batch(
    share: tf.Tensor | None, totals: Totals, rows: Sequence[tf.Tensor] = ()
) -> Iterator[None]:
    """Has the loss that is computed in the block be that of a part of the batch.

    Args:
        share: float64 scalar: the part's rows over the batch's; None rehearses the loss of
            the whole batch, and notes in `totals` what it divides by.
        totals: what the rehearsal has found.
        rows: tensors that have a row for each example of the part, first.

    Raises:
        PlugError: the loss divides by what nobody knows.
    """
    before = dict(vars(_current))
    means: dict[int, tf.Tensor] = {}
    known = {id(one): one for one in rows}
    static = {one.shape[0] for one in rows if one.shape.rank}
    flow = RowFlow(
        RULES,
        row_entries.otherwise,
        static.pop() if len(static) == 1 else None,
        lambda one: one is share or any(one is total for total in totals.found),
        lambda one: id(one) in means,
        lambda one: id(one) in known,
    )
    _current.share, _current.totals, _current.asked, _current.means = share, totals, 0, means
    _current.terms = None if share is None else Terms(flow, share)
    _current.rows = known
    try:
        with _PATCHES:
            yield
    finally:
        vars(_current).clear()
        vars(_current).update(before)


def weighed(loss: tf.Tensor) -> tf.Tensor:
    """Returns what a part's loss is of the whole batch's: a mean by the share, a sum all of it."""
    assert _current.terms is not None
    terms = _current.terms.of(loss, slopes=False)
    _current.terms.warn(terms, "the loss", _CURE)
    whole = tf.add_n([term.value * term.weight for term in terms])
    if all(term.by_share for term in terms):
        return whole
    # A part without rows has a stand-in, which a share of 0 takes out of a mean, not of a sum.
    return tf.where(_current.terms.share > 0, whole, tf.zeros_like(whole))


def is_sum(value: tf.Tensor) -> bool:
    """Whether a number of a part is a sum over its rows, or has one among its terms."""
    if _current.terms is None or not tf_graphs.is_symbolic(value):
        return False
    return not all(term.by_share for term in _current.terms.of(value, slopes=False))


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
    if _current.asked == len(_current.totals.found):
        raise PlugError(
            "a loss that makes a mask of its own (as Circle does), but a microbatch does not know "
            "the whole batch's: write a train_step of your own, which sees the whole batch, or "
            "train on another kind of strategy"
        )
    _current.asked += 1
    return _current.totals.found[_current.asked - 1]


def _of_the_batch(part: tf.Tensor) -> tf.Tensor:
    """A part of the whole batch's loss, as the share that it will be weighed by makes of it."""
    return _a_mean(tf.math.divide_no_nan(part, tf.cast(_current.share, part.dtype)))


def _a_mean(loss: tf.Tensor) -> tf.Tensor:
    """Notes that a loss is one that the share is to weigh, and returns it."""
    if _current.means is not None:
        _current.means[id(loss)] = loss
    return loss


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
    if _current.terms is not None and _current.totals.known:
        _current.terms.warn_of_rows(values, "a loss", _CURE)
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        total = _next(lambda: tf.reduce_sum(sample_weight))
        if total is not None:
            part = tf.math.divide_no_nan(tf.reduce_sum(values), tf.cast(total, values.dtype))
            return _of_the_batch(part)
    elif reduction == "sum" and _current.share is not None:
        return _of_the_batch(tf.reduce_sum(values))
    found = original(values, sample_weight, reduction)
    return found if reduction in ("sum", "none", None) else _a_mean(found)


def _average_loss(
    per_example_loss: tf.Tensor,
    sample_weight: tf.Tensor | None = None,
    global_batch_size: Count | None = None,
) -> tf.Tensor:
    """`tf.nn.compute_average_loss`, which may be told the whole batch's size."""
    loss = patches.original("average_loss")(per_example_loss, sample_weight, global_batch_size)
    if _current.share is None or tf.get_static_value(global_batch_size) is None:
        return _a_mean(loss)  # none, or made of the part's own rows
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
        if _are_rows(tf.nest.flatten(sources)):
            found = patches.original("tape_gradient")(self, target, sources, *args, **named)
            return _of_rows(found, tf.nest.flatten(target))
        for one in tf.nest.flatten(target):
            if isinstance(one, tf.Tensor) and one.shape.rank != 0:
                raise PlugError(
                    "train_step takes gradients of a loss that has a number for each row, but a "
                    "part of a batch is weighted by its share of the rows: give a mean over them "
                    "(tf.reduce_mean), or leave backup_workers out"
                )
            _check_is_no_sum(one)
    return patches.original("tape_gradient")(self, target, sources, *args, **named)


def _are_rows(sources: Sequence[object]) -> bool:
    """Whether all are rows of the batch, such as its inputs, and none is a variable."""
    flow = None if _current.terms is None else _current.terms.flow
    return flow is not None and all(
        isinstance(one, tf.Tensor) and tf_graphs.is_symbolic(one) and flow.of(one).axis == 0
        for one in sources
    )


def _of_rows(gradients: Nest, targets: Sequence[object]) -> Nest:
    """What the whole batch has of gradients by its rows: of a mean over it they are smaller.

    Raises:
        PlugError: the target has both sums and means over rows.
    """
    assert _current.terms is not None
    share = _current.terms.share
    scalars = [one for one in targets if isinstance(one, tf.Tensor) and not one.shape.rank]
    means = {term.by_share for one in scalars for term in _current.terms.of(one, slopes=False)}
    if len(means) > 1:
        raise PlugError(
            "train_step takes gradients with respect to rows of a number that has sums and means "
            "over rows, of which a part of a batch has only its own: take those of its sums and of "
            "its means by themselves, or leave backup_workers out"
        )
    found = [
        one if one is None or means != {True} else one * tf.cast(share, one.dtype)
        for one in tf.nest.flatten(gradients)
    ]
    for one in found:
        if one is not None and _current.rows is not None:
            _current.rows[id(one)] = one
    return tf.nest.pack_sequence_as(gradients, found)


def _check_is_no_sum(value: object) -> None:
    known = _current.totals is None or _current.totals.known
    if known or not isinstance(value, tf.Tensor):
        return
    if is_sum(value):
        raise PlugError(
            f"{value.name} is a sum over rows that train_step makes itself, but a part of a batch "
            "is weighted by its share of the rows: give a mean over them (tf.reduce_mean), or a "
            "keras.losses.Loss with reduction='sum', or leave backup_workers out"
        )
    if _current.terms is not None and tf_graphs.is_symbolic(value):
        terms = _current.terms.of(value, slopes=False)
        _current.terms.warn(terms, "the loss of a step", "leave backup_workers out")


_PATCHES = patches.Patches(
    {
        "apply_mask": _apply_mask,
        "reduce_values": _reduce_values,
        "average_loss": _average_loss,
        "samplewise_values": _samplewise_values,
        "tape_gradient": _tape_gradient,
    }
)
