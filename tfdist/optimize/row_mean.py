"""Whether a loss is a mean over rows: the loss of a portion is that of its two halves, by rows.

A sum over rows would be multiplied by a portion's part of all rows, so that the size of portions
would decide what is minimized; and so would anything else that is no mean of one number a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from tfdist.errors import PlugError
from tfdist.structures import Leaf, Nest
from tfdist.training.data.stream import map_leaves, rows_in, slice_rows

__all__ = ["check_is_mean", "halves", "whole"]

_SAME = 1e-4  # by what part of itself a loss may differ: float32 on a GPU, in another order


def whole(batch: Nest) -> Nest:
    """A portion, of one row twice the row; in a graph, too.

    Args:
        batch: dense, ragged and sparse tensors with rows.
    """
    rows = tf.maximum(rows_in(batch), 2)
    return map_leaves(lambda leaf: slice_rows(_twice(leaf), 0, rows), batch)


def halves(batch: Nest) -> tuple[Nest, Nest]:
    """The two halves of a portion's rows, of one row the row each time; in a graph, too.

    Args:
        batch: dense, ragged and sparse tensors with rows.
    """
    rows = rows_in(batch)
    half = rows // 2
    first = map_leaves(lambda leaf: slice_rows(leaf, 0, tf.maximum(half, 1)), batch)
    return first, map_leaves(lambda leaf: slice_rows(leaf, half, rows), batch)


def _twice(leaf: Leaf) -> Leaf:
    if isinstance(leaf, tf.SparseTensor):
        return tf.sparse.concat(0, [leaf, leaf])
    return tf.concat([leaf, leaf], 0)


def check_is_mean(portion: Sequence[float], parts: Sequence[Sequence[float]]) -> None:
    """Checks that a loss is a mean over rows; one that is not finite tells nothing.

    Args:
        portion: its loss times its rows, and its rows.
        parts: the same of its halves.

    Raises:
        PlugError: it is not.
    """
    total, rows = portion
    together = math.fsum(loss for loss, _ in parts)
    largest = max(abs(total), math.fsum(abs(loss) for loss, _ in parts))
    if not math.isfinite(total - together) or abs(total - together) <= _SAME * largest:
        return
    raise PlugError(
        f"the loss is no mean over rows: it is {total / rows:.6g} for {rows:.0f} rows, and "
        f"{together / rows:.6g} as the mean of its two halves, so that the size of portions would "
        "decide what is minimized; make a mean of what compute_loss, add_loss or the loss function "
        "sums (divide it by the number of rows, or reduction='sum_over_batch_size'), or use fit"
    )
