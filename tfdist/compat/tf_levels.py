"""TensorFlow's collectives in groups of replicas: sums that go level by level, not by one ring."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfdist.compat import tf_collectives
from tfdist.compat.names import tf_launchers

__all__ = ["sum_by_levels"]

_TYPES = (tf.float32, tf.float64)
"""Those that are summed so: a half of them would be rounded at each level."""

_FIRST_KEY = 1 << 20
"""Of the groups: TensorFlow counts those of strategies from 1, and a process has one of several."""


def sum_by_levels(
    strategy: tf.distribute.Strategy,
    groups: Sequence[Sequence[int]],
    replica: int,
    takes: Callable[[int], bool],
) -> None:
    """Has the CPU of a multi-worker strategy sum some tensors level by level.

    All processes call it together. Everybody gets the same bits.

    Args:
        strategy: a fresh one, with one replica in each process.
        groups: this replica's group of each level: the numbers of its replicas, by the parts of a
            tensor that they sum, this one's among them.
        replica: the number of this process's replica.
        takes: tells by the bytes of a tensor.
    """
    (launcher,) = strategy.extended._cross_device_ops._launchers
    launcher.__class__ = _in_levels(launcher.__class__)
    launcher.tfdist_groups = _groups(launcher, groups, replica, strategy.num_replicas_in_sync)
    launcher.tfdist_takes = takes


class _Group:
    """A replica's group of a level.

    Args:
        launcher: what starts the collectives of this group.
        place: which of it this replica is.
    """

    def __init__(self, launcher: Any, place: int) -> None:
        self.launcher = launcher
        self.size: int = launcher._group_size
        self.place = place
        self.order = [*range(self.size)]
        """The places, as TensorFlow has them: by the tasks' names."""

    @property
    def places(self) -> list[int]:
        """Where TensorFlow has each."""
        return sorted(range(self.size), key=self.order.__getitem__)


def _groups(
    launcher: Any, groups: Sequence[Sequence[int]], replica: int, replicas: int
) -> list[_Group]:
    found = []
    for level, members in enumerate(groups):
        key = _FIRST_KEY + level * replicas + min(members)
        keys = tf_launchers.CollectiveKeys(key)
        keys.get_group_key([launcher._device])
        own = tf_launchers.CollectiveReplicaLauncher(
            key, len(members), keys, launcher._device, launcher._options
        )
        found.append(_Group(own, members.index(replica)))

    def orders() -> list[tf.Tensor]:
        return [_gathered(one, tf.constant([one.place], tf.int64), None) for one in found]

    for one, order in zip(found, tf.function(orders, autograph=False)(), strict=True):
        one.order = [int(place) for place in order.numpy().reshape(-1)]
    return found


@functools.cache
def _in_levels(base: Any) -> type:
    class InLevels(base):
        """What starts the collectives of one replica."""

        tfdist_groups: Sequence[_Group]
        tfdist_takes: Callable[[int], bool]

        def all_reduce(
            self, input_tensor: tf.Tensor, control_input: object = None, options: object = None
        ) -> tf.Tensor:
            tensor = tf.convert_to_tensor(input_tensor)
            count = tensor.shape.num_elements()
            if (
                not count  # None where nobody knows
                or tensor.dtype not in _TYPES
                or not self.tfdist_takes(count * tensor.dtype.size)
            ):
                return super().all_reduce(tensor, control_input, options)
            flat = tf.reshape(tensor, [count])
            return tf.reshape(_summed(self.tfdist_groups, flat, options), tensor.shape)

    return InLevels


def _summed(groups: Sequence[_Group], flat: tf.Tensor, options: object) -> tf.Tensor:
    first, *others = groups
    launcher = first.launcher
    if not others:
        return launcher.all_reduce(flat, None, options)
    count = flat.shape[0]
    each = math.ceil(count / first.size)
    with tf.device(launcher._device):
        if missing := first.size * each - count:
            flat = tf.pad(flat, [[0, missing]])
        parts = tf_collectives.taken(tf.reshape(flat, [first.size, each]), first.order)
        received = tf_collectives.sent_to_each(launcher, parts)
        part = tf.add_n(tf.unstack(received, num=first.size))
        whole = _gathered(first, _summed(others, part, options), options)
        whole = tf.reshape(tf_collectives.taken(whole, first.places), [first.size * each])
        return whole[:count] if missing else whole


def _gathered(group: _Group, own: tf.Tensor, options: object) -> tf.Tensor:
    """Returns what all of a group have, as TensorFlow orders them: `[size, *shape]`."""
    options = options or tf.distribute.experimental.CommunicationOptions()
    with tf.device(group.launcher._device):
        gathered = group.launcher._all_gather(tf.expand_dims(own, 0), options)
        return tf.ensure_shape(gathered, [group.size, *own.shape])
