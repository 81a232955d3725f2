"""The asynchronous strategy: a chief coordinates, workers compute, ps tasks keep the variables."""

from __future__ import annotations

import tensorflow as tf

from tfdist.cluster import Cluster
from tfdist.strategies import registry
from tfdist.strategies.servers import coordinating
from tfdist.strategies.strategy_options import Options

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
    with coordinating(cluster, options, _KIND) as (spec, agreement):
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            spec, task_type="chief", task_id=0, rpc_layer="grpc"
        )
        # No variable_partitioner: Keras 3 knows no partitioned variables; tfdist.plug shards.
        strategy = tf.distribute.ParameterServerStrategy(resolver)
    registry.remember(strategy, agreement.membership)
    return strategy
