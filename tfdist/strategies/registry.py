"""What this process knows of its strategies: the replicas of each, and which is the job's."""

from __future__ import annotations

import weakref
from pathlib import Path

import tensorflow as tf

from tfdist import exits, log
from tfdist.cluster import Cluster
from tfdist.errors import PlugError, StrategyError, TfdistError
from tfdist.rendezvous.in_touch import InTouch
from tfdist.rendezvous.membership import Membership
from tfdist.strategies.layout import ReplicaLayout

__all__ = [
    "check_belongs",
    "count_tasks",
    "layout_of",
    "let_go_of_functions",
    "membership_of",
    "note_plugged",
    "remember",
    "remember_touch",
    "touch",
]

_last: weakref.ref[tf.distribute.Strategy] | None = None
"""A weak reference to the last strategy of several replicas that this process made."""

_any_is_plugged = False

_LATE = 2.0  # seconds after which a server might be lost

_touch: InTouch | None = None
_membership: weakref.WeakKeyDictionary[tf.distribute.Strategy, Membership] = (
    weakref.WeakKeyDictionary()
)


def remember(strategy: tf.distribute.Strategy, membership: Membership | None = None) -> None:
    """Notes that this process is meant to train on `strategy`.

    Args:
        strategy: the strategy.
        membership: knows which of its servers are here.
    """
    global _last
    if _last is None:
        exits.add_hint(_why_not_plugged)
    _last = weakref.ref(strategy)
    if membership is not None:
        _membership[strategy] = membership


def note_plugged() -> None:
    """Notes that some model of this process trains as tfdist does."""
    global _any_is_plugged
    _any_is_plugged = True


def _why_not_plugged(error: BaseException) -> str:
    """What is missing where Keras itself has failed under a strategy of several processes."""
    last = None if _last is None else _last()
    if _any_is_plugged or last is None or isinstance(error, TfdistError):
        return ""
    servers = isinstance(last, tf.distribute.ParameterServerStrategy)
    trace, in_keras = error.__traceback__, False
    while trace is not None:
        in_keras = in_keras or "keras" in Path(trace.tb_frame.f_code.co_filename).parts
        trace = trace.tb_next
    if not in_keras or not (servers or _spans_machines(last)):
        return ""
    return (
        "no model was plugged: Keras' own fit does not train under a strategy of several "
        "processes; call tfdist.plug(model) before it, or start the script with --plug"
    )


def remember_touch(touch: InTouch | None) -> None:
    """Notes what this process knows of the workers that it is in step with."""
    global _touch
    _touch = touch


def touch() -> InTouch | None:
    """What this process knows of the workers that it is in step with; None where it is not."""
    return _touch


def membership_of(strategy: tf.distribute.Strategy) -> Membership | None:
    """Who knows which servers of a strategy are here; None where tfdist has not made it."""
    return _membership.get(strategy)


def let_go_of_functions(strategy: tf.distribute.Strategy) -> None:
    """On a chief, has the servers forget functions of models that are gone, if all are here."""
    membership = membership_of(strategy)
    if membership is not None and not membership.absent() and not membership.silent(_LATE):
        # Not at the top: it imports Keras, in the middle of whose own import this file may be.
        from tfdist.compat import tf_functions

        tf_functions.let_go()


def check_belongs(strategy: tf.distribute.Strategy, what: str) -> None:
    """Checks that what was made under `strategy` was not meant for another one.

    A model that was made outside of every scope is warned of where it would train on one device of
    this process, beside a strategy of several.

    Raises:
        PlugError: the job spans several processes, but `what` was made outside of its scope and
            would be trained alone by each of them.
    """
    last = _last() if _last is not None else None
    if last is None or last is strategy or strategy.num_replicas_in_sync > 1:
        return
    if isinstance(last, tf.distribute.ParameterServerStrategy):
        raise PlugError(
            f"{what} was made outside of strategy.scope(), so its variables are on no parameter "
            "server: make and compile it inside `with strategy.scope():`"
        )
    if _spans_machines(last):
        raise PlugError(
            f"{what} was made outside of strategy.scope(), so every worker would train its own: "
            "make and compile it inside `with strategy.scope():`"
        )
    if isinstance(strategy, tf.distribute.OneDeviceStrategy) or last.num_replicas_in_sync == 1:
        return  # its scope was chosen, or would have been the same
    log.warning(
        "%s was made outside of strategy.scope(): it trains on one device, not on the %d replicas "
        "of the strategy",
        what,
        last.num_replicas_in_sync,
    )


def layout_of(strategy: tf.distribute.Strategy) -> ReplicaLayout:
    """Returns the replicas of a strategy, seen from this process.

    Raises:
        StrategyError: it is of a kind that tfdist does not train synchronously.
    """
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return ReplicaLayout(task="chief:0")  # the workers take turns: none is a replica
    if strategy.num_replicas_in_sync == 1 and not _spans_machines(strategy):
        return ReplicaLayout()
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and _spans_machines(
        strategy
    ):
        resolver = strategy.cluster_resolver
        spec = resolver.cluster_spec().as_dict()
        jobs = {name: tuple(spec[name]) for name in ("chief", "worker") if name in spec}
        task_type, task_id = resolver.task_type, int(resolver.task_id)
        tasks = [task for task in Cluster(jobs).tasks if task.type in ("chief", "worker")]
        worker = [(task.type, task.index) for task in tasks].index((task_type, task_id))
        local = strategy.num_replicas_in_sync // len(tasks)
        return ReplicaLayout(
            replicas=strategy.num_replicas_in_sync,
            first=worker * local,
            local=local,
            worker=worker,
            workers=len(tasks),
            task=f"{task_type}:{task_id}",
        )
    if isinstance(
        strategy, tf.distribute.MirroredStrategy | tf.distribute.MultiWorkerMirroredStrategy
    ):
        replicas = strategy.num_replicas_in_sync
        return ReplicaLayout(replicas=replicas, first=0, local=replicas)
    raise StrategyError(
        f"tfdist does not train on {type(strategy).__name__}; make the strategy with "
        "tfdist.strategy(), or use OneDeviceStrategy, MirroredStrategy, "
        "MultiWorkerMirroredStrategy or ParameterServerStrategy"
    )


def count_tasks(job: str) -> int:
    """How many tasks of a job this process has connected to."""
    places = (device.name for device in tf.config.list_logical_devices("CPU"))
    return len({place.split("/device")[0] for place in places if f"/job:{job}/" in place})


def _spans_machines(strategy: tf.distribute.Strategy) -> bool:
    resolver = getattr(strategy, "cluster_resolver", None)
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return False
    spec = resolver.cluster_spec().as_dict()
    return sum(len(spec.get(job, ())) for job in ("chief", "worker")) > 1
