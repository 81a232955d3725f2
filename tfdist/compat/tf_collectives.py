"""TensorFlow's collectives: groups and lanes, small sums by a gather, silence that is borne."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfdist.compat import tf_strategies
from tfdist.compat.names import tf_context, tf_coordination

__all__ = [
    "all_to_all",
    "bear_silence",
    "gather",
    "gather_small_sums",
    "lane",
    "lanes",
    "learn_order",
    "open_lanes",
    "sent_to_each",
    "separate_collectives",
    "taken",
    "widen_integers",
]

_lock = threading.RLock()

_strategies_seen = 0

_GROUPS_PER_STRATEGY = 1000


def separate_collectives(strategy: tf.distribute.Strategy) -> None:
    """Keeps the collectives of two strategies of one process apart.

    Every MirroredStrategy calls its group of devices by the same number; a second one in the
    process (a notebook's cell run again, with more devices) would join the first one's group and
    abort all collectives of the process. It must be done before a step is traced.
    """
    global _strategies_seen
    extended = strategy.extended
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or not hasattr(
        extended, "_make_collective_ops_with_fallbacks"
    ):
        return
    with _lock:
        if getattr(extended, "_tfdist_separated", False):
            return
        extended._tfdist_separated = True
        _strategies_seen += 1
        extended._collective_key_base = _GROUPS_PER_STRATEGY * _strategies_seen
    before = extended._collective_ops
    extended._collective_ops = extended._make_collective_ops_with_fallbacks()
    if extended._cross_device_ops is before:
        extended._cross_device_ops = extended._collective_ops


def widen_integers(strategy: tf.distribute.Strategy, kind: str = "GPU") -> None:
    """Has GPUs sum int32 as int64.

    TensorFlow adds int32 on the host even where the numbers lie on a GPU; MirroredStrategy keeps
    them out of its collectives for that, and does not where `merge_call` is done without.

    Args:
        strategy: one that this process trains on.
        kind: of the devices.
    """
    extended = strategy.extended
    for name in ("_collective_ops", "_cross_device_ops"):
        for launcher in getattr(getattr(extended, name, None), "_launchers", ()):
            if kind in launcher._device.upper() and not hasattr(launcher, "tfdist_widens"):
                launcher.__class__ = _widening(launcher.__class__)


@functools.cache
def _widening(base: Any) -> type:
    class Widening(base):
        """What starts the collectives of one replica."""

        tfdist_widens = True

        def all_reduce(
            self, input_tensor: tf.Tensor, control_input: object = None, options: object = None
        ) -> tf.Tensor:
            tensor = tf.convert_to_tensor(input_tensor)
            if tensor.dtype != tf.int32:
                return super().all_reduce(tensor, control_input, options)
            with tf.device(self._device):
                wide = tf.cast(tensor, tf.int64)
            return tf.cast(super().all_reduce(wide, control_input, options), tf.int32)

    return Widening


def open_lanes(strategy: tf.distribute.Strategy, count: int) -> None:
    """Lets so many collectives of a strategy's CPUs be under way at a time, in place of one.

    TensorFlow has each wait for the one before, as NCCL needs; those by gRPC and in one process
    do not mind. Those of one lane wait for each other. It must be done before a step is traced.

    Args:
        strategy: one that this process trains on.
        count: lanes.
    """
    of_groups = [
        group.launcher
        for launcher in _launchers(strategy)
        for group in getattr(launcher, "tfdist_groups", ())
    ]
    for launcher in [*_launchers(strategy), *of_groups]:
        if "CPU" in launcher._device and not hasattr(launcher, "tfdist_more_tokens"):
            launcher.__class__ = _in_lanes(launcher.__class__)
            with tf.init_scope(), tf_strategies.out_of_scope(), tf.device(launcher._device):
                more = [tf.Variable(0.0, trainable=False) for _ in range(count - 1)]
            launcher.tfdist_more_tokens = more


def lanes(strategy: tf.distribute.Strategy) -> int:
    """How many collectives of a strategy can be under way at a time."""
    more = [getattr(one, "tfdist_more_tokens", ()) for one in _launchers(strategy)]
    return 1 + min(map(len, more), default=0)


class _Lane(threading.local):
    number = 0


_lane = _Lane()


@contextlib.contextmanager
def lane(number: int) -> Iterator[None]:
    """Has the collectives that this thread adds to a graph wait for those of one lane alone.

    Args:
        number: below `lanes`; outside of the block it is 0.
    """
    outer, _lane.number = _lane.number, number
    try:
        yield
    finally:
        _lane.number = outer


@functools.cache
def _in_lanes(base: Any) -> type:
    class InLanes(base):
        """What starts the collectives of one replica."""

        tfdist_more_tokens: Sequence[tf.Variable]

        def _get_ordering_token(self) -> tf.Tensor | None:
            first: tf.Tensor | None = super()._get_ordering_token()
            if first is None or not _lane.number:
                return first
            return self.tfdist_more_tokens[_lane.number - 1].handle

    return InLanes


def gather_small_sums(
    strategy: tf.distribute.Strategy, is_gathered: Callable[[int, int], bool]
) -> None:
    """Has the CPUs of a multi-worker strategy sum some tensors by a gather.

    Everybody adds up the same in the same order, so all get the same bits.

    Args:
        strategy: a fresh one.
        is_gathered: tells by the number of replicas and the bytes of a tensor.
    """
    for launcher in strategy.extended._cross_device_ops._launchers:
        if "CPU" in launcher._device:
            launcher.__class__ = _gathering(launcher.__class__)
            launcher.is_gathered = is_gathered


_GATHERED_TYPES = (tf.float16, tf.float32, tf.float64, tf.int32, tf.int64, tf.bfloat16)
"""Those that TensorFlow can gather, and bfloat16, of which two travel as one int32."""


@functools.cache
def _gathering(base: Any) -> type:
    class Gathering(base):
        """What starts the collectives of one replica."""

        is_gathered: Callable[[int, int], bool]

        def all_reduce(
            self, input_tensor: tf.Tensor, control_input: object = None, options: object = None
        ) -> tf.Tensor:
            tensor = tf.convert_to_tensor(input_tensor)
            count = tensor.shape.num_elements()
            if (
                count is None
                or tensor.dtype not in _GATHERED_TYPES
                or not self.is_gathered(self._group_size, count * tensor.dtype.size)
            ):
                return super().all_reduce(tensor, control_input, options)
            with tf.device(self._device):
                gathered = _gathered(self, tensor, options)
                if tensor.dtype == tf.bfloat16:
                    total = tf.reduce_sum(tf.cast(gathered, tf.float32), 0)
                    return tf.cast(total, tensor.dtype)
                return tf.add_n(tf.unstack(gathered, num=self._group_size))

    return Gathering


def _gathered(launcher: Any, tensor: tf.Tensor, options: object) -> tf.Tensor:
    """Returns the tensors of all replicas, `[replicas, *shape]`, by their launcher."""
    pairs = tensor.dtype == tf.bfloat16
    own = _in_pairs(tensor) if pairs else tensor
    gathered = launcher._all_gather(tf.expand_dims(own, 0), options)
    if not pairs:
        return gathered
    replicas = launcher._group_size
    halves = tf.reshape(tf.bitcast(gathered, tensor.dtype), [replicas, -1])
    return tf.reshape(halves[:, : tensor.shape.num_elements()], [replicas, *tensor.shape])


def _in_pairs(tensor: tf.Tensor) -> tf.Tensor:
    """A tensor of two-byte numbers as one of int32, flat; an odd one gets a zero at its end."""
    flat = tf.reshape(tensor, [-1])
    if flat.shape[0] % 2:
        flat = tf.pad(flat, [[0, 1]])
    return tf.bitcast(tf.reshape(flat, [-1, 2]), tf.int32)


def learn_order(strategy: tf.distribute.Strategy, first: int) -> None:
    """Learns in which order TensorFlow gathers, once for a strategy; all processes call it.

    That is not the order of the replicas: tasks are sorted by their names, task:10 before task:2,
    and GPUs of a process by the links between them.

    Args:
        strategy: one that this process trains on.
        first: the number, in the job, of this process's first replica.
    """
    launchers = _launchers(strategy)
    if not launchers or hasattr(strategy.extended, "_tfdist_order"):
        return
    if launchers[0]._group_size == 1:
        strategy.extended._tfdist_order = [0]
        return

    def on_replica() -> tf.Tensor:
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        static = tf.get_static_value(number)
        launcher = launchers[0 if len(launchers) == 1 else int(static) - first]
        with tf.device(launcher._device):
            own = tf.reshape(tf.cast(number, tf.int64), [1, 1])
            return _gathered(launcher, own, tf.distribute.experimental.CommunicationOptions())

    with tf_strategies.out_of_scope():
        run = tf.function(lambda: strategy.run(on_replica), autograph=False)()
    found = strategy.experimental_local_results(run)[0]
    strategy.extended._tfdist_order = [int(one) for one in found.numpy().reshape(-1)]


def _order(strategy: tf.distribute.Strategy) -> list[int]:
    """The replicas, as TensorFlow gathers them."""
    order: list[int] = strategy.extended._tfdist_order  # of `learn_order`
    return order


def gather(strategy: tf.distribute.Strategy, tensor: tf.Tensor, here: int = 0) -> tf.Tensor:
    """Returns the tensors of all replicas, one behind the other; `learn_order` comes before.

    Args:
        strategy: a mirrored or multi-worker strategy, in whose replica's context it is called.
        tensor: of a static shape, the same on every replica.
        here: which of this process's replicas it is.

    Returns:
        `[replicas, *shape]`, in the order of the replicas.
    """
    launcher = _launchers(strategy)[here]
    with tf.device(launcher._device):
        options = tf.distribute.experimental.CommunicationOptions()
        return taken(_gathered(launcher, tensor, options), _inverse(_order(strategy)))


def taken(rows: tf.Tensor, places: list[int]) -> tf.Tensor:
    """Rows in another order."""
    if places == sorted(places):
        return rows
    return tf.gather(rows, places)


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def all_to_all(strategy: tf.distribute.Strategy, tensor: tf.Tensor, here: int = 0) -> tf.Tensor:
    """Gives each replica the row of its number of every replica's tensor; after `learn_order`.

    Args:
        strategy: a mirrored or multi-worker strategy, in whose replica's context it is called.
        tensor: `[replicas, ...]` of a static shape, the same on every replica.
        here: which of this process's replicas it is.

    Returns:
        `[replicas, ...]`, in the order of the replicas that have sent the rows.
    """
    launcher, order = _launchers(strategy)[here], _order(strategy)
    with tf.device(launcher._device):
        received = sent_to_each(launcher, taken(tensor, order))
        return taken(received, _inverse(order))


def sent_to_each(launcher: Any, tensor: tf.Tensor) -> tf.Tensor:
    """`all_to_all` by what starts collectives, in whose order the rows are and come."""
    options = launcher._options
    key = launcher._next_instance_key()
    token = launcher._get_ordering_token()
    with tf.device(launcher._device):
        return tf.raw_ops.CollectiveAllToAllV2(
            input=tensor,
            group_size=launcher._group_size,
            group_key=launcher._group_key,
            instance_key=key,
            ordering_token=[] if token is None else [token],
            communication_hint=options.implementation.value.lower(),
            timeout_seconds=options.timeout_seconds or 0,
        )


def _launchers(strategy: tf.distribute.Strategy) -> Sequence[Any]:
    extended = strategy.extended
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    name = "_cross_device_ops" if several else "_collective_ops"
    operations = getattr(extended, name, None)  # one device has none
    launchers: Sequence[Any] = getattr(operations, "_launchers", ())
    return launchers


def bear_silence(jobs: Mapping[str, int], leader: str, seconds: float) -> None:
    """Has TensorFlow bear a process that says nothing, of a synchronous job, for so long.

    By itself it ends the job after 10 s. It must be done before the strategy is made.

    Args:
        jobs: how many tasks each job has.
        leader: the first of them, as "worker:0".
        seconds: how long.
    """
    job, _, index = leader.partition(":")
    tf_context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{job}/replica:0/task:{index}",
        coordinated_jobs=[
            tf_coordination.CoordinatedJob(name=name, num_tasks=count)
            for name, count in jobs.items()
        ],
        heartbeat_timeout_in_ms=int(1000 * seconds),
    )
