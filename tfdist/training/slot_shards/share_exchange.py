"""Shares of tensors on their way between replicas: sent to whom they belong, and gathered again.

What an all-reduce by a ring does in one go is done in its two halves, with the optimizer's update
between them: each replica sends every other its part of that one's share (an all-to-all) and adds
up what it gets, always in the order of the replicas; and what it has made of its share goes to all
(an all-gather). Either sends (N - 1) / N of the numbers, so both send what the ring does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfdist.compat import tf_collectives
from tfdist.strategies import step_clock
from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.slot_shards.cut import Cut

__all__ = ["ShareExchange"]

_PACK = 16 << 20
"""Bytes of all shares of a pack, if it is not a single tensor: what is copied into one, and what
comes of it, is in memory for one pack at a time, as one travels after the other."""


class ShareExchange:
    """Moves shares between the replicas of a strategy; call it in their context.

    Args:
        strategy: of several replicas.
        layout: these.
    """

    def __init__(self, strategy: tf.distribute.Strategy, layout: ReplicaLayout) -> None:
        self._strategy = strategy
        self._layout = layout

    @property
    def replica(self) -> int:
        """The number, in the job, of the replica in whose context this is asked."""
        if self._layout.local == 1:
            return self._layout.first
        context = tf.distribute.get_replica_context()
        number = tf.get_static_value(context.replica_id_in_sync_group)
        assert number is not None
        return int(number)

    def own(self, value: tf.Tensor, cut: Cut) -> tf.Tensor:
        """Returns this replica's share of a tensor."""
        start, stop = cut.bounds(self.replica)
        units = tf.reshape(value, [cut.units, cut.width])[start:stop]
        return tf.reshape(_padded(units, cut.each), cut.share)

    def own_rows(self, gradient: tf.IndexedSlices, cut: Cut) -> tf.IndexedSlices:
        """Returns those rows of a sparse gradient that belong to this replica's share."""
        start, stop = cut.bounds(self.replica)
        is_own = (gradient.indices >= start) & (gradient.indices < stop)
        values = tf.boolean_mask(gradient.values, is_own)
        indices = tf.boolean_mask(gradient.indices, is_own) - start
        return tf.IndexedSlices(values, indices, tf.constant(cut.share, indices.dtype))

    def sums(self, parts: Sequence[tf.Tensor], cuts: Sequence[Cut]) -> list[tf.Tensor]:
        """Returns this replica's shares of the sums over the replicas.

        Args:
            parts: this replica's tensors.
            cuts: of each.
        """
        return self._by_dtype(parts, cuts, self._sums)

    def _sums(self, parts: Sequence[tf.Tensor], cuts: Sequence[Cut]) -> list[tf.Tensor]:
        replicas = self._layout.replicas
        rows = [
            tf.reshape(
                _padded(tf.reshape(part, [cut.units, cut.width]), cut.each * replicas),
                [replicas, cut.numbers],
            )
            for part, cut in zip(parts, cuts, strict=True)
        ]
        packed = tf.concat(rows, 1)
        began = step_clock.exchanged(packed)
        received = tf_collectives.all_to_all(self._strategy, packed, self._here)
        step_clock.summed(began, received)
        total = tf.add_n(tf.unstack(received, num=replicas))
        shares = tf.split(total, [cut.numbers for cut in cuts])
        return [tf.reshape(one, cut.share) for one, cut in zip(shares, cuts, strict=True)]

    def gathered(self, shares: Sequence[tf.Tensor], cuts: Sequence[Cut]) -> list[tf.Tensor]:
        """Returns whole tensors, of this replica's shares and the others'."""
        return self._by_dtype(shares, cuts, self._gathered)

    def _gathered(self, shares: Sequence[tf.Tensor], cuts: Sequence[Cut]) -> list[tf.Tensor]:
        everybody = self.of_all(tf.concat([tf.reshape(one, [-1]) for one in shares], 0))
        found = []
        start = 0
        for cut in cuts:
            own = everybody[:, start : start + cut.numbers]
            units = tf.reshape(own, [self._layout.replicas * cut.each, cut.width])
            found.append(tf.reshape(units[: cut.units], cut.shape))
            start += cut.numbers
        return found

    def of_all(self, own: tf.Tensor) -> tf.Tensor:
        """Returns the tensors of all replicas, `[replicas, *shape]`, in their order."""
        began = step_clock.exchanged(own)
        everybody = tf_collectives.gather(self._strategy, own, self._here)
        step_clock.summed(began, everybody)
        shape = tf.concat([[self._layout.replicas], tf.shape(own)], 0)
        return tf.reshape(everybody, shape)

    @property
    def _here(self) -> int:
        """The replica's number in this process."""
        return self.replica - self._layout.first

    @staticmethod
    def _by_dtype(
        tensors: Sequence[tf.Tensor],
        cuts: Sequence[Cut],
        move: Callable[[Sequence[tf.Tensor], Sequence[Cut]], list[tf.Tensor]],
    ) -> list[tf.Tensor]:
        """Moves tensors of each type in packs, the last ones first: so a backward pass ends."""
        found = list(tensors)
        for places in _packs(tensors, cuts):
            moved = move([tensors[i] for i in places], [cuts[i] for i in places])
            for i, one in zip(places, moved, strict=True):
                found[i] = one
        return found


def _packs(tensors: Sequence[tf.Tensor], cuts: Sequence[Cut]) -> list[list[int]]:
    """Returns the places of tensors that travel together."""
    packs: list[list[int]] = []
    for dtype in dict.fromkeys(one.dtype for one in tensors):
        left = 0
        for i in reversed([i for i, one in enumerate(tensors) if one.dtype == dtype]):
            size = cuts[i].numbers * cuts[i].replicas * dtype.size
            if size > left or not packs or tensors[packs[-1][0]].dtype != dtype:
                packs.append([])
                left = _PACK
            packs[-1].append(i)
            left -= size
    return packs


def _padded(units: tf.Tensor, count: int) -> tf.Tensor:
    missing = count - units.shape[0]
    return tf.pad(units, [[0, missing], [0, 0]]) if missing else units
