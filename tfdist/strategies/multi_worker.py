"""The synchronous strategy over several machines."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf

from tfdist import exits, log, process
from tfdist.cluster import Cluster
from tfdist.cluster.address import Address
from tfdist.compat import tf_collectives, tf_graphs, tf_levels
from tfdist.errors import StrategyError
from tfdist.machine.signals import take_back
from tfdist.rendezvous.agreement import Agreement
from tfdist.rendezvous.cards import Holding
from tfdist.strategies import own_gpus, registry, stall_watch
from tfdist.strategies.small_sums import is_gathered
from tfdist.strategies.startup import come_together, tell_who_is_here
from tfdist.strategies.strategy_options import Options
from tfdist.strategies.sum_levels import levels_of

__all__ = ["KIND", "LocalGpusResolver", "communication_for", "joined", "make_multi_worker_mirrored"]

KIND = "multi_worker_mirrored"
_WORKERS = ("chief", "worker")
_HOLDINGS: dict[Holding, str] = {
    "none": "not every worker has a GPU",
    "own": "every worker has GPUs of its own",
    "slices": "workers have MIG slices, over which NCCL does not go",
    "shared": "a GPU is there for several of the job's devices",
}
_LATER = 10.0
"""TensorFlow's heart beats twice in the time of which it is told, and a connection that has been
cut takes seconds to go on: only with so many more does a pause heal that the stall timeout bears.
"""


@contextlib.contextmanager
def joined(cluster: Cluster, deadline: float) -> Iterator[Agreement]:
    """Checks the cluster and meets its other tasks; TensorFlow opens its port inside the block.

    Args:
        cluster: the machines, with this process's own task.
        deadline: seconds to wait for the others.

    Yields:
        What the tasks agreed on.

    Raises:
        ClusterError: the spec does not fit this strategy.
        RendezvousError: the tasks did not come together, or have not as many GPUs each.
        StrategyError: TensorFlow has run operations already.
    """
    cards = own_gpus.ids()
    with come_together(cluster, deadline, KIND, in_step=True, cards=cards) as agreement:
        _stay_in_touch(cluster, agreement)
        if agreement.holding == "shared":
            own_gpus.share_memory()
        try:
            yield agreement
        except RuntimeError as error:
            if "program startup" not in str(error):
                raise
            raise StrategyError(
                f"{cluster.task}: TensorFlow has run operations already ({error}): make the "
                "strategy at the top of the program, before any tensor, dataset or model"
            ) from error
    # TensorFlow catches it from now on, and does nothing: who is told to end would go on.
    take_back(signal.SIGTERM)
    # An unseeded shuffle must give every worker the same order, or examples would be lost.
    tf_graphs.seed_if_unseeded(agreement.seed)
    tell_who_is_here(cluster, agreement)


def _stay_in_touch(cluster: Cluster, agreement: Agreement) -> None:
    """Has this process know of the others from now on, and TensorFlow bear their silence."""
    registry.remember_touch(agreement.touch)
    if agreement.touch is None:  # of one task
        return
    exits.at_the_end(agreement.touch.close)
    stall_watch.begin(str(cluster.task), agreement.touch, None)
    tf_collectives.bear_silence(
        {job: len(cluster.jobs[job]) for job in cluster.job_names if job in _WORKERS},
        str(cluster.chief),
        2 * process.stall_timeout() + _LATER,
    )


def make_multi_worker_mirrored(cluster: Cluster, options: Options) -> tf.distribute.Strategy:
    """Meets the other tasks, then returns a `tf.distribute.MultiWorkerMirroredStrategy`.

    Args:
        cluster: the machines, with this process's own task.
        options: see `Options`.

    Raises:
        ClusterError, RendezvousError, StrategyError: see `joined`.
    """
    with joined(cluster, options.deadline) as agreement:
        assert cluster.task is not None
        communication = tf.distribute.experimental.CommunicationOptions(
            # No timeout_seconds: with one, TensorFlow 2.21 starts a thread for every collective
            # that sleeps until the time is up, and a few minutes of training exhaust the system.
            implementation=tf.distribute.experimental.CommunicationImplementation(
                communication_for(options.communication, agreement.holding).upper()
            )
        )
        jobs = {job: cluster.jobs[job] for job in cluster.job_names if job in _WORKERS}
        resolver = LocalGpusResolver(
            tf.train.ClusterSpec({job: list(addresses) for job, addresses in jobs.items()}),
            task_type=cluster.task.type,
            task_id=cluster.task.index,
            rpc_layer="grpc",
        )
        strategy = tf.distribute.MultiWorkerMirroredStrategy(
            cluster_resolver=resolver, communication_options=communication
        )
        tf_collectives.gather_small_sums(strategy, is_gathered)
        if options.communication != "ring" and communication.implementation.value == "RING":
            _sum_by_levels(strategy, jobs, options.communication == "hierarchical")
    if agreement.holding != "none" and cluster.is_chief:
        how = communication.implementation.value
        why = "--secure carries no NCCL" if process.is_secure() else _HOLDINGS[agreement.holding]
        log.info("gradients travel by %s: %s", how, why)
    return strategy


def _sum_by_levels(
    strategy: tf.distribute.Strategy, jobs: Mapping[str, Sequence[str]], wanted: bool
) -> None:
    """Has many CPUs sum by levels, where that waits for fewer messages or is wanted."""
    hosts = [Address.parse(one).host for addresses in jobs.values() for one in addresses]
    layout = registry.layout_of(strategy)
    on_cpus = own_gpus.of_replicas(strategy) == () and layout.replicas == layout.workers
    levels = levels_of(hosts, wanted) if on_cpus else None
    if levels is None:
        if wanted:
            why = "workers with GPUs" if not on_cpus else f"{len(hosts)} workers on these hosts"
            log.warning("communication='hierarchical': %s sum by one ring", why)
        return
    own = layout.worker
    groups = [levels.group(own, level) for level in range(len(levels.sizes))]
    with stall_watch.meeting():
        tf_levels.sum_by_levels(
            strategy, groups, own, functools.partial(levels.takes, wanted=wanted)
        )


def communication_for(asked: str, holding: Holding) -> str:
    """Returns how gradients are to travel: "ring" or "nccl".

    Args:
        asked: "ring", "hierarchical" (rings and more of the kind), "nccl", or "auto": NCCL where
            every worker has GPUs of its own, and no tunnels are between them.
        holding: how the workers hold their GPUs.

    Raises:
        StrategyError: NCCL is asked for, and cannot be had.
    """
    if asked == "nccl" and process.is_secure():
        raise StrategyError(
            "communication='nccl' under --secure, whose tunnels do not carry it, as it opens ports "
            "of its own; leave it out"
        )
    if asked == "nccl" and holding != "own":
        raise StrategyError(
            f"communication='nccl', which needs a GPU for each worker, but {_HOLDINGS[holding]}: "
            "leave it out, or give every worker GPUs of its own"
        )
    if asked == "auto":
        return "nccl" if holding == "own" and not process.is_secure() else "ring"
    return "nccl" if asked == "nccl" else "ring"


class LocalGpusResolver(tf.distribute.cluster_resolver.SimpleClusterResolver):
    """A cluster whose workers compute on the GPUs that they see.

    TensorFlow's own knows of no GPU but those that it is told of, and has a worker compute on the
    CPU without a word. Nobody can count them before TensorFlow has opened its port: to list devices
    starts it.
    """

    def num_accelerators(
        self, task_type: object = None, task_id: object = None, config_proto: object = None
    ) -> dict[str, int]:
        """Returns how many of each kind this process has."""
        own = f"/job:{self.task_type}/replica:0/task:{self.task_id}/"
        names = [device.name for device in tf.config.list_logical_devices("GPU")]
        return {"GPU": len([one for one in names if "/job:" not in one or own in one])}
