"""Sums over virtual replicas in one order, so that they have the same bits on any number of tasks.

Each process adds up the branches of the tree (`summation_tree`) that its replicas make, the
processes gather these, and everybody adds them up to the root.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdist.compat import tf_collectives, tf_graphs
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import T
from tfdist.training.peers import packing
from tfdist.training.replica.sparse_gradients import behind_each_other
from tfdist.training.replica.summation_tree import Branch, branches, total

__all__ = ["OrderedSum"]


class OrderedSum:
    """Adds up what the virtual replicas of all processes bring.

    Args:
        strategy: has one replica in each process, in whose context it is called.
        layout: the virtual replicas.
    """

    def __init__(self, strategy: tf.distribute.Strategy, layout: ReplicaLayout) -> None:
        self._strategy = strategy
        self.layout = layout
        spans = [layout.span_of(worker) for worker in range(layout.workers)]
        self._branches = [branches(first, last, layout.replicas) for first, last in spans]
        self._most = max(map(len, self._branches))

    def dense(self, brought: Sequence[Sequence[tf.Tensor]]) -> list[tf.Tensor]:
        """Sums tensors over all replicas of the job.

        Args:
            brought: for each replica of this process its own.
        """
        return self._roots([self._own_branches(values) for values in zip(*brought, strict=True)])

    def sparse(self, brought: Sequence[Sequence[tf.IndexedSlices]]) -> list[tf.IndexedSlices]:
        """Sums sparse gradients likewise: one behind the other, in the order of the replicas."""
        return [self.over_processes(behind_each_other(one)) for one in zip(*brought, strict=True)]

    def over_processes(self, values: T) -> T:
        """Sums what each process has once."""
        if self.layout.workers == 1:
            return values
        return packing.sum_by_dtype(values)

    def _own_branches(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        parts = {
            (replica, replica + 1): value
            for replica, value in zip(self.layout.local_replicas, values, strict=True)
        }
        return [total(parts, _added, *branch) for branch in self._branches[self.layout.worker]]

    def _roots(self, own: list[list[tf.Tensor]]) -> list[tf.Tensor]:
        """Returns the sums of several tensors, given this process's branches of each."""
        if not own or self.layout.workers == 1:
            return [one[0] for one in own]
        if self.layout.workers == 2 and self._most == 1:  # either order gives the same bits
            return list(self.over_processes([one[0] for one in own]))
        sums: dict[int, tf.Tensor] = {}
        for dtype in dict.fromkeys(one[0].dtype for one in own):
            places = [i for i, one in enumerate(own) if one[0].dtype == dtype]
            sums |= zip(places, self._gathered([own[i] for i in places]), strict=True)
        return [sums[i] for i in range(len(own))]

    def _gathered(self, own: list[list[tf.Tensor]]) -> list[tf.Tensor]:
        """`_roots` of tensors of one type, by one gather."""
        shapes = [tf.shape(one[0]) for one in own]
        sizes = [tf.size(one[0]) for one in own]
        flat = [tf.concat([tf.reshape(one[k], [-1]) for one in own], 0) for k in range(len(own[0]))]
        flat += [tf.zeros_like(flat[0])] * (self._most - len(flat))
        stacked = tf.stack(flat)
        if stacked.shape.is_fully_defined():
            everybody = tf_collectives.gather(self._strategy, stacked)
        else:  # whose sizes TensorFlow cannot gather: between zeros, which a sum keeps
            place = tf.one_hot(self.layout.worker, self.layout.workers, dtype=stacked.dtype)
            everybody = self.over_processes(place[:, None, None] * stacked[None])
        parts: dict[Branch, tf.Tensor] = {
            branch: everybody[worker, k]
            for worker, theirs in enumerate(self._branches)
            for k, branch in enumerate(theirs)
        }
        root = total(parts, _added, 0, self.layout.replicas)
        found = [
            tf.reshape(part, shape)
            for part, shape in zip(tf.split(root, sizes, num=len(sizes)), shapes, strict=True)
        ]
        for value, one in zip(found, own, strict=True):
            value.set_shape(one[0].shape)
        return found


def _added(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf_graphs.kept_as_written(a + b)
