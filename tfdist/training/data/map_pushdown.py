"""Maps of a dataset that a worker runs for its own rows only.

In `dataset.map(decode).batch(64)` each element becomes one row of a batch, so that a worker that
needs half of the rows need not decode the other half. The elements that are mapped are grouped into
the same global batches; each worker takes its rows of them, maps these, and batches what comes out.

It is done where it changes nothing but the time: the maps that stand right before the batching, as
long as they keep no state (no random numbers, no Python code), on elements of one shape.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfdist.compat import tf_datasets
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Count, Nest
from tfdist.training.data.fingerprint import fingerprint_of
from tfdist.training.data.sharding import bounds_of, make_step
from tfdist.training.data.stream import Step, map_leaves, slice_rows

__all__ = ["share_out_before_maps"]


def share_out_before_maps(
    dataset: tf.data.Dataset, layout: ReplicaLayout
) -> tf.data.Dataset | None:
    """Turns a dataset of global batches into one of `Step`s, and maps this process's rows alone.

    Args:
        dataset: of global batches.
        layout: the replicas.

    Returns:
        The steps, the same as of all rows; None where not all is known that it takes.
    """
    found = tf_datasets.maps_before_batch(dataset) if layout.workers > 1 else None
    # Else the last batch may have more rows for a replica than a full one.
    if found is None or found.size % layout.replicas:
        return None
    if not all(_is_plain(spec) for spec in tf.nest.flatten(found.base.element_spec)):
        return None

    def own_rows(batch: Nest) -> tuple[Nest, tf.Tensor]:
        """This process's rows, each with the size and the fingerprint of its batch."""
        total = found.size
        if not found.drop_remainder:
            total = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]
        low, high = _span(total, layout)
        own = map_leaves(lambda leaf: slice_rows(leaf, low, high), batch)
        marks = tf.stack([tf.cast(total, tf.int64), fingerprint_of(batch)])
        return own, tf.repeat(marks[None], tf.cast(high - low, tf.int32), 0)

    @tf.autograph.experimental.do_not_convert
    def step(batch: Nest, marks: tf.Tensor) -> Step:
        total = found.size if found.drop_remainder else marks[0, 0]
        bounds = bounds_of(total, layout)
        first = _span(total, layout)[0]

        def part(low: Count, high: Count) -> Nest:
            return map_leaves(lambda leaf: slice_rows(leaf, low - first, high - first), batch)

        return make_step([part(*rows) for rows in bounds.rows], bounds, marks[0, 1])

    batches = found.base.batch(found.size, found.drop_remainder)
    rows = batches.map(tf_datasets.whole_elements(batches, own_rows)).unbatch()
    for one in found.maps:
        rows = rows.map(_on_first(one.function), tf.data.AUTOTUNE if one.parallel else None)
    own_size = found.size // layout.replicas * layout.local
    steps = rows.batch(own_size, found.drop_remainder).map(step)
    for count in found.repeats:
        steps = steps.repeat(count)
    return steps.with_options(dataset.options())


def _is_plain(spec: tf.TypeSpec) -> bool:
    return isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined()


def _span(total: Count, layout: ReplicaLayout) -> tuple[Count, Count]:
    """From the first to the last row of this process."""
    rows = bounds_of(total, layout).rows
    return rows[0][0], rows[-1][1]


def _on_first(
    function: Callable[[Nest], Nest],
) -> Callable[[Nest, tf.Tensor], tuple[Nest, tf.Tensor]]:
    """Maps the first component, and leaves the second as it is."""

    @tf.autograph.experimental.do_not_convert
    def see(first: Nest, second: tf.Tensor) -> tuple[Nest, tf.Tensor]:
        return function(first), second

    return see
