"""The synchronous strategy over several machines."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator

import keras
import tensorflow as tf

from tfdist import internals, log
from tfdist.cluster import Cluster
from tfdist.cluster.rendezvous import meet
from tfdist.errors import StrategyError
from tfdist.strategies.one_machine import quiet_tensorflow
from tfdist.strategies.options import Options
from tfdist.version import __version__

__all__ = ["joined", "make_multi_worker_mirrored"]

_KIND = "multi_worker_mirrored"


@contextlib.contextmanager
def joined(cluster: Cluster, deadline: float) -> Iterator[None]:
    """Checks the cluster and meets its other tasks; TensorFlow opens its port inside the block.

    Args:
        cluster: the machines, with this process's own task.
        deadline: seconds to wait for the others.

    Raises:
        ClusterError: the spec does not fit this strategy.
        RendezvousError: the tasks did not come together.
        StrategyError: TensorFlow has run operations already.
    """
    cluster.validate(_KIND)
    quiet_tensorflow()
    versions = {
        "tfdist": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
    with meet(cluster, timeout=deadline, versions=versions, kind=_KIND, log=log.info) as agreement:
        try:
            yield
        except RuntimeError as error:
            if "program startup" not in str(error):
                raise
            raise StrategyError(
                f"{cluster.task}: TensorFlow has run operations already ({error}): make the "
                "strategy at the top of the program, before any tensor, dataset or model"
            ) from error
    # An unseeded shuffle must give every worker the same order, or examples would be lost.
    internals.seed_if_unseeded(agreement.seed)
    if not cluster.is_chief and "TFDIST_LAUNCHED" in os.environ:
        return  # one terminal for all tasks: the chief says it for them
    log.info(
        "all %d tasks are here, after %.1f s: %s",
        len(agreement.tasks),
        agreement.waited,
        ", ".join(map(str, agreement.tasks)),
    )


def make_multi_worker_mirrored(cluster: Cluster, options: Options) -> tf.distribute.Strategy:
    """Meets the other tasks, then returns a `tf.distribute.MultiWorkerMirroredStrategy`.

    Args:
        cluster: the machines, with this process's own task.
        options: see `Options`.

    Raises:
        ClusterError, RendezvousError, StrategyError: see `joined`.
    """
    communication = tf.distribute.experimental.CommunicationOptions(
        # No timeout_seconds: with one, TensorFlow 2.21 starts a thread for every collective that
        # sleeps until the time is up, and a few minutes of training exhaust the system.
        implementation=tf.distribute.experimental.CommunicationImplementation(
            options.communication.upper()
        ),
    )
    with joined(cluster, options.deadline):
        assert cluster.task is not None
        jobs = {job: cluster.jobs[job] for job in cluster.job_names if job in ("chief", "worker")}
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({job: list(addresses) for job, addresses in jobs.items()}),
            task_type=cluster.task.type,
            task_id=cluster.task.index,
            rpc_layer="grpc",
        )
        return tf.distribute.MultiWorkerMirroredStrategy(
            cluster_resolver=resolver, communication_options=communication
        )
