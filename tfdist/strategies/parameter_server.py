"""The asynchronous strategy: a chief coordinates, workers compute, ps tasks keep the variables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from absl import logging

from tfdist.cluster import Cluster
from tfdist.strategies import registry
from tfdist.strategies.options import Options
from tfdist.strategies.servers import coordinating

__all__ = ["make_parameter_server"]

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
    with coordinating(cluster, options, _KIND) as (spec, agreement), _quiet_absl():
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            spec, task_type="chief", task_id=0, rpc_layer="grpc"
        )
        # No variable_partitioner: Keras 3 knows no partitioned variables; tfdist.plug shards.
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
