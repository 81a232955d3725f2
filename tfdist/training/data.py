"""Shares one stream of global batches out over the replicas.

Every worker reads the same stream (the same arrays, the same dataset, the same generator) and each
replica takes its rows of every global batch: N workers then see exactly the batches that one
process would, in the same order, the last partial one too. Every step carries, for each replica of
this process, its rows and its *share* of the global batch; and a fingerprint of the batch, by which
the workers find out that their streams differ (an unseeded shuffle is the usual reason).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfdist.errors import DataError
from tfdist import internals
from tfdist.strategies.layout import ReplicaLayout

__all__ = ["SharedData", "Step", "share_out", "to_step"]

_FINGERPRINT_RANGE = 2**31 - 1


class Step(NamedTuple):
    """One step's data of this process.

    Attributes:
        parts: for each local replica its rows, structured as the user's batch.
        shares: float32 `[local]`: each local replica's rows over the global batch's.
        starts: int64 `[local]`: where each part begins in the global batch.
        sizes: int64 `[local]`: rows of each part; 0 where a stand-in row is given.
        total: int64: rows of the global batch.
        fingerprint: int64: a hash of the batch's first row, 0 in a job of one process.
    """

    parts: tuple[Any, ...]
    shares: tf.Tensor
    starts: tf.Tensor
    sizes: tf.Tensor
    total: tf.Tensor
    fingerprint: tf.Tensor


def share_out(dataset: tf.data.Dataset, layout: ReplicaLayout) -> tf.data.Dataset:
    """Turns a dataset of global batches into one of `Step`s for this process's replicas."""
    is_tuple = isinstance(dataset.element_spec, tuple)

    def one(*components: Any) -> Step:
        return to_step(components if is_tuple else components[0], layout)

    return dataset.map(one).prefetch(2)


def to_step(batch: Any, layout: ReplicaLayout) -> Step:
    """Takes this process's rows from a global batch (tensors, in any structure)."""
    total = _rows(batch)
    parts, starts, sizes = [], [], []
    for replica in layout.local_replicas:
        start, stop = layout.bounds(total, replica)
        # A replica without rows gets one as a stand-in; its share of 0 makes it count nothing.
        low = _least(start, total - 1)
        high = _most(stop, low + 1)
        parts.append(_map(lambda leaf, a=low, b=high: _slice(leaf, a, b), batch))
        starts.append(start)
        sizes.append(stop - start)
    starts_, sizes_ = tf.cast(starts, tf.int64), tf.cast(sizes, tf.int64)
    total_ = tf.cast(total, tf.int64)
    return Step(
        parts=tuple(parts),
        shares=tf.cast(sizes_ / tf.maximum(total_, 1), tf.float32),
        starts=starts_,
        sizes=sizes_,
        total=total_,
        fingerprint=_fingerprint(batch) if layout.workers > 1 else tf.zeros((), tf.int64),
    )


def _least(a: Any, b: Any) -> Any:
    return max(min(a, b), 0) if isinstance(a, int) else tf.maximum(tf.minimum(a, b), 0)


def _most(a: Any, b: Any) -> Any:
    return max(a, b) if isinstance(a, int) else tf.maximum(a, b)


def _map(function: Callable[[Any], Any], batch: Any) -> Any:
    """Maps over the tensors of a batch; absent entries (None, empty Optionals) stay as they are."""

    def one(leaf: Any) -> Any:
        absent = leaf is None or isinstance(leaf, tf.experimental.Optional)
        return leaf if absent else function(leaf)

    return tf.nest.map_structure(one, batch)


def _leaves(batch: Any) -> list[Any]:
    return [
        leaf
        for leaf in tf.nest.flatten(batch)
        if leaf is not None and not isinstance(leaf, tf.experimental.Optional)
    ]


def _rows(batch: Any) -> Any:
    """The number of rows of a batch: a Python integer where the shape tells, else an int64."""
    leaves = _leaves(batch)
    if not leaves:
        raise DataError("the dataset's elements hold no tensors: nothing can be trained on them")
    for leaf in leaves:
        if leaf.shape.rank == 0:
            raise DataError(
                "an element of the dataset holds a scalar, but every tensor needs the batch as its "
                "first dimension: batch the dataset with .batch(global_batch_size)"
            )
    static = {leaf.shape[0] for leaf in leaves if leaf.shape.rank is not None}
    if len(static) == 1 and None not in static:
        return int(static.pop())
    first = leaves[0]
    if isinstance(first, tf.RaggedTensor):
        return first.nrows(tf.int64)
    if isinstance(first, tf.SparseTensor):
        return first.dense_shape[0]
    return tf.shape(first, tf.int64)[0]


def _slice(leaf: Any, low: Any, high: Any) -> Any:
    if isinstance(leaf, tf.SparseTensor):
        begin = tf.concat([[tf.cast(low, tf.int64)], tf.zeros_like(leaf.dense_shape[1:])], 0)
        size = tf.concat([[tf.cast(high - low, tf.int64)], leaf.dense_shape[1:]], 0)
        part = tf.sparse.slice(leaf, begin, size)
        return tf.sparse.reorder(part)
    return leaf[low:high]


def _fingerprint(batch: Any) -> tf.Tensor:
    """Hashes the first row of every tensor of the batch."""
    total = tf.zeros((), tf.int64)
    for leaf in _leaves(batch):
        if isinstance(leaf, tf.RaggedTensor):
            leaf = leaf.flat_values
        elif isinstance(leaf, tf.SparseTensor):
            leaf = leaf.values
        text = tf.io.serialize_tensor(leaf[:1])
        total += tf.strings.to_hash_bucket_fast(text, _FINGERPRINT_RANGE)
    return total


class SharedData:
    """The data of one `fit`, `evaluate` or `predict`, as steps of this process.

    Args:
        layout: the replicas.
        x, y, sample_weight, batch_size, steps, shuffle, class_weight: as in `keras.Model.fit`;
            `batch_size` is the global batch's.

    Attributes:
        counted: whether an epoch's steps are known to be there, so that they can run in a graph
            loop without asking at every step whether everybody still has data.
        num_batches: batches of the stream, or None where nobody knows (yet).
        steps_asked: the user's `steps_per_epoch`.
    """

    def __init__(
        self,
        layout: ReplicaLayout,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        shuffle: Any = False,
        class_weight: Any = None,
    ) -> None:
        if isinstance(x, tf.distribute.DistributedDataset):
            raise DataError(
                "a distributed dataset was given; give the dataset itself, batched by the global "
                "batch size (tfdist shares it out), or a function of tf.distribute.InputContext"
            )
        limit = keras.config.max_steps_per_epoch()
        self.steps_asked = min(steps, limit) if steps and limit else steps or limit
        self.layout = layout
        self._adapter = internals.data_adapter(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            steps_per_epoch=self.steps_asked,
            shuffle=shuffle,
            class_weight=class_weight,
        )
        self._batches = self._adapter.get_tf_dataset()
        self._steps = share_out(self._batches, layout)
        self._iterator: Iterator[Step] | None = None
        self._pulled: list[Step] = []
        self._seen = 0
        self.num_batches: int | None = self._adapter.num_batches
        infinite = int(self._batches.cardinality()) == tf.data.INFINITE_CARDINALITY
        self.counted = self.num_batches is not None or (infinite and self.steps_asked is not None)

    @property
    def batch_size(self) -> int | None:
        """Rows of a full global batch, where it is known beforehand."""
        size = self._adapter.batch_size
        return None if size is None else int(size)

    @property
    def num_steps(self) -> int | None:
        """Steps of an epoch, or None where nobody knows before its end."""
        return self.steps_asked or self.num_batches

    @property
    def may_leave_replicas_out(self) -> bool:
        """Whether some batch may have fewer rows than there are replicas."""
        if self.layout.replicas == 1:
            return False
        partial = self._adapter.partial_batch_size
        if partial is not None or self._adapter.has_partial_batch is False:
            size = self.batch_size or 0
            return min(partial or size, size) < self.layout.replicas
        first = _leaves(self._batches.element_spec)[0]
        static = first.shape[0] if first.shape.rank else None
        return static is None or static < self.layout.replicas

    def sample_batch(self) -> Any:
        """Specs of one batch (or one real batch where the specs do not tell the ranks)."""
        spec = self._batches.element_spec
        leaves = _leaves(spec)
        if any(leaf.shape.rank is None for leaf in leaves):
            return next(iter(self._batches))
        return _map(lambda leaf: leaf, spec)

    def begin_epoch(self) -> None:
        """Starts an epoch: from the beginning, or where the last one stopped with `steps` given."""
        self._adapter.on_epoch_begin()
        if self._iterator is None or self.steps_asked is None:
            self._iterator = iter(self._steps)
            self._pulled = []
            self._seen = 0

    def end_epoch(self) -> None:
        """Ends an epoch."""
        if self.num_batches is not None and self._seen >= self.num_batches:
            self._iterator = None
        self._adapter.on_epoch_end()

    def rewind(self) -> None:
        """Makes the next epoch begin at the stream's first batch."""
        self._iterator = None

    @property
    def iterator(self) -> Iterator[Step]:
        """The running iterator over `Step`s."""
        assert self._iterator is not None
        return self._iterator

    def left(self, step: int) -> int | None:
        """Steps that remain in this epoch after `step` of them, or None where nobody knows."""
        asked = None if self.steps_asked is None else self.steps_asked - step
        there = None if self.num_batches is None else self.num_batches - self._seen
        known = [count for count in (asked, there) if count is not None]
        return min(known) if known else None

    def pull(self, count: int) -> list[Step]:
        """Takes up to `count` steps off the stream, fewer where it ends."""
        while len(self._pulled) < count:
            step = next(self.iterator, None)
            if step is None:
                break
            self._pulled.append(step)
        return self._pulled[:count]

    def use(self, count: int) -> list[Step]:
        """Takes `count` of the pulled steps for good; the others stay for the next time."""
        used, self._pulled = self._pulled[:count], self._pulled[count:]
        self.took(count)
        return used

    def took(self, steps: int) -> None:
        """Notes that `steps` steps were taken from the iterator."""
        self._seen += steps

    def ran_out(self) -> None:
        """Notes that the stream ended here: its length is known from now on."""
        if self.num_batches is None:
            self.num_batches = self._seen
        self._iterator = None
