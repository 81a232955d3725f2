"""The asynchronous strategy: a chief coordinates, workers compute, ps tasks keep the variables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from absl import logging

from tfdist.cluster import Cluster
from tfdist.cluster.ports import Reservation
from tfdist.strategies import registry
from tfdist.strategies.one_machine import quiet_tensorflow
from tfdist.strategies.options import Options
from tfdist.strategies.servers import meet_as_chief, serve

__all__ = ["coordinator_spec", "make_parameter_server"]

_KIND = "parameter_server"


def make_parameter_server(cluster: Cluster, options: Options) -> tf.distribute.Strategy:
    """Returns a `tf.distribute.ParameterServerStrategy` on the chief.

    On a worker or a ps it does not return: the task serves the chief, and its process ends when the
    job does.

    Args:
        cluster: the machines, with this process's own task.
        options: see `Options`.

    Raises:
        ClusterError: the spec does not fit this strategy.
        RendezvousError: the tasks did not come together.
        TaskLost: on a worker or a ps, where the chief has ended badly.
        SystemExit: on a worker or a ps, with 0, where it has ended well.
    """
    cluster.validate(_KIND)
    quiet_tensorflow()
    if not cluster.is_chief:
        serve(
            cluster,
            options.deadline,
            _KIND,
            intra_op_threads=options.intra_op_threads,
            inter_op_threads=options.inter_op_threads,
        )
    agreement = meet_as_chief(cluster, options.deadline, _KIND)
    with Reservation(1) as held:
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            coordinator_spec(cluster, held.ports[0]),
            task_type="chief",
            task_id=0,
            rpc_layer="grpc",
        )
        # No variable_partitioner: Keras 3 knows no partitioned variables; tfdist.plug shards.
        with _quiet_absl():
            strategy = tf.distribute.ParameterServerStrategy(resolver)
    registry.remember(strategy, agreement.attendance)
    return strategy


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    """Leaves out what TensorFlow logs of its session through absl, and not its own logger."""
    level = logging.get_verbosity()
    logging.set_verbosity(min(level, logging.WARNING))
    try:
        yield
    finally:
        logging.set_verbosity(level)


def coordinator_spec(cluster: Cluster, port: int) -> tf.train.ClusterSpec:
    """Returns the cluster as TensorFlow's coordinator on the chief tells it to the servers.

    Args:
        cluster: with a chief.
        port: where TensorFlow listens on the chief. The port of the cluster spec stays tfdist's own
            for the whole job: a task that is started again comes there.
    """
    jobs = {job: list(cluster.jobs[job]) for job in cluster.job_names if job != "evaluator"}
    host = cluster.address(cluster.chief).rpartition(":")[0]
    return tf.train.ClusterSpec({**jobs, "chief": [f"{host}:{port}"]})
