"""The asynchronous strategy: a chief coordinates, workers compute, ps tasks keep the variables."""

from __future__ import annotations

import sys

import tensorflow as tf

from tfdist.cluster import Cluster
from tfdist.errors import PlugError
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
    _tell_of_models_alone(strategy)
    return strategy


def _tell_of_models_alone(strategy: tf.distribute.Strategy) -> None:
    """Has the strategy say what is wrong where Keras itself asks it for data."""
    distribute = strategy.experimental_distribute_dataset

    def told(dataset: tf.data.Dataset, options: object = None) -> object:
        asks = sys._getframe(1).f_globals.get("__name__", "")
        if asks.partition(".")[0] == "keras":
            raise PlugError(
                "a model that was made in the scope of parameter servers is used by Keras alone, "
                "which cannot read data there: give it to tfdist.plug(model), as a teacher or a "
                "target network, too, or make it outside of strategy.scope()"
            )
        return distribute(dataset, options)

    strategy.experimental_distribute_dataset = told
