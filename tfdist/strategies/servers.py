"""Jobs whose workers and parameter servers are TensorFlow servers that a chief coordinates.

chief:0 ── meet_as_chief ──► goes on with the script ──► ended (well, or badly and why)
worker:0, ps:0 ── serve ──► tf.distribute.Server ──────► exit code 0, or TaskLost (75)
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import NoReturn

import tensorflow as tf
from absl import logging

from tfdist import exits, process
from tfdist.cluster import Cluster
from tfdist.compat import tf_functions, tf_graphs
from tfdist.errors import ClusterError, StrategyError
from tfdist.machine.capacities import available_cores
from tfdist.machine.ports import Reservation
from tfdist.rendezvous.agreement import Agreement
from tfdist.rendezvous.membership import Membership
from tfdist.strategies import own_gpus, stall_watch
from tfdist.strategies.startup import come_together, tell_who_is_here
from tfdist.strategies.strategy_options import Options

__all__ = ["coordinating", "learn_of_losses", "meet_as_chief", "serve"]

_LEAST_INTER_OP_THREADS = 4
"""With fewer, a server on a small machine may wait for itself."""

_LEAST_SENDING_THREADS = 2
"""With one (a process on one core), all that a server has to send waits until it has nothing to
compute."""


def learn_of_losses() -> None:
    """Has TensorFlow report a lost task instead of waiting for it; before its first connection."""
    os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")


def meet_as_chief(cluster: Cluster, deadline: float, kind: str) -> Agreement:
    """Meets the servers and waits until they listen; when this process ends, they hear how.

    Tfdist keeps the chief's address of the cluster spec until then: TensorFlow's own server on the
    chief takes another port.

    Args:
        cluster: the machines, with this process's own task, the chief.
        deadline: seconds to wait for the others.
        kind: the kind of strategy.

    Returns:
        What the tasks agreed on; its `membership` knows who is here.

    Raises:
        ClusterError: the spec does not fit this kind, or the task is not its chief.
        RendezvousError: the tasks did not come together, or a server did not start.
    """
    if not cluster.is_chief:
        raise ClusterError(f"task {cluster.task}, which is not the chief; it serves: see serve")
    learn_of_losses()
    exits.tell_by_exit_code()
    agreement = come_together(cluster, deadline, kind, stay=True)
    agreement.close()  # the listener itself keeps the port
    if agreement.membership is not None:
        stall_watch.begin(str(cluster.task), None, agreement.membership)
        exits.at_the_end(functools.partial(_say_the_last_word, agreement.membership))
        agreement.membership.wait_for_servers(deadline)
    tf_graphs.seed_if_unseeded(agreement.seed)
    tell_who_is_here(cluster, agreement)
    return agreement


def serve(
    cluster: Cluster,
    deadline: float,
    kind: str,
    *,
    intra_op_threads: int | None = None,
    inter_op_threads: int | None = None,
) -> NoReturn:
    """Serves the chief as a worker or a parameter server, and ends this process with the job.

    Args:
        cluster: the machines, with this process's own task.
        deadline: seconds to wait for the others.
        kind: the kind of strategy.
        intra_op_threads: threads within one operation; TensorFlow's choice if None.
        inter_op_threads: operations that run at the same time; all cores, 4 at least, if None.

    Raises:
        SystemExit: the chief's job has ended well (exit code 0).
        TaskLost: it has not, or the chief has died (exit code 75 where nobody catches it).
        ClusterError: the spec does not fit this kind, or TensorFlow cannot listen at the port.
        RendezvousError: the tasks did not come together.
    """
    if cluster.task is None or cluster.is_chief:
        raise ClusterError(f"task {cluster.task}, which does not serve; the chief goes on")
    learn_of_losses()
    exits.tell_by_exit_code()
    with come_together(cluster, deadline, kind, stay=True) as agreement:
        server = _started(cluster, intra_op_threads, inter_op_threads)
    tell_who_is_here(cluster, agreement)
    agreement.wait_for_the_end()
    del server
    exits.skip_the_teardown(0)  # TensorFlow's server cannot be stopped: it may still compute
    raise SystemExit(0)


@contextlib.contextmanager
def coordinating(
    cluster: Cluster, options: Options, kind: str
) -> Iterator[tuple[tf.train.ClusterSpec, Agreement]]:
    """On the chief, meets the servers; on a server, serves, and never enters the block.

    Args:
        cluster: the machines, with this process's own task.
        options: the deadline, and a server's threads.
        kind: the kind of strategy.

    Yields:
        The cluster as TensorFlow's coordinator is to tell it to the servers, and what the tasks
        agreed on. The coordinator has a free port of its own, held for it inside the block: that of
        the cluster spec stays tfdist's for the whole job, as a task that is started again comes
        there.

    Raises:
        ClusterError, RendezvousError, StrategyError, TaskLost, SystemExit: see `serve` and
            `meet_as_chief`.
    """
    if not cluster.is_chief:
        serve(
            cluster,
            options.deadline,
            kind,
            intra_op_threads=options.intra_op_threads,
            inter_op_threads=options.inter_op_threads,
        )
    agreement = meet_as_chief(cluster, options.deadline, kind)
    tf_functions.keep_what_is_not_needed()
    host = cluster.address(cluster.chief).rpartition(":")[0]
    given = process.coordinator_port()
    with Reservation(1) if given is None else Reservation(ports=[given]) as held:
        jobs = {**_jobs(cluster), "chief": [f"{host}:{held.ports[0]}"]}
        with _quiet_absl():  # or TensorFlow would print its configuration
            yield tf.train.ClusterSpec(jobs), agreement


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    """Leaves out what TensorFlow logs of its session through absl, and not its own logger."""
    level = logging.get_verbosity()
    logging.set_verbosity(min(level, logging.WARNING))
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _jobs(cluster: Cluster) -> dict[str, list[str]]:
    return {job: list(cluster.jobs[job]) for job in cluster.job_names if job != "evaluator"}


def _started(
    cluster: Cluster, intra_op_threads: int | None, inter_op_threads: int | None
) -> tf.distribute.Server:
    assert cluster.task is not None
    # The pool for what the chief has a server run knows the environment, and not the server's own
    # configuration.
    if inter_op_threads is not None:
        os.environ["TF_NUM_INTEROP_THREADS"] = str(inter_op_threads)
    elif "TF_NUM_INTEROP_THREADS" not in os.environ:
        inter_op_threads = max(_LEAST_INTER_OP_THREADS, os.cpu_count() or 1)
        os.environ["TF_NUM_INTEROP_THREADS"] = str(max(_LEAST_SENDING_THREADS, available_cores()))
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=intra_op_threads or 0,
        inter_op_parallelism_threads=inter_op_threads or 0,
    )
    own_gpus.limit_server(config, computes=cluster.task.type == "worker")
    try:
        return tf.distribute.Server(
            tf.train.ClusterSpec(_jobs(cluster)),
            job_name=cluster.task.type,
            task_index=cluster.task.index,
            protocol="grpc",
            config=config,
        )
    except tf.errors.OpError as error:
        raise StrategyError(
            f"{cluster.task}: TensorFlow's server did not start at "
            f"{cluster.address(cluster.task)} ({error.message}); give the task another port"
        ) from error


def _say_the_last_word(membership: Membership, reason: str) -> None:
    membership.close(well=not reason, reason=reason)
