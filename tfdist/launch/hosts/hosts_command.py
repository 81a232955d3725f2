"""`tfdist run --hosts`: the job that its options make."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from tfdist import process
from tfdist.cluster import Cluster, Task
from tfdist.cluster.crew_size import most_of
from tfdist.host_options import NOT_SECURE, SSH_VARIABLE
from tfdist.launch.crew.crew_options import CrewOptions
from tfdist.launch.hosts.host_ground import Connecting, HostGround, Planner
from tfdist.launch.hosts.host_list import hosts_of
from tfdist.launch.hosts.spread import Spread
from tfdist.launch.live.chosen_view import live_view
from tfdist.launch.plan import JobPlan

__all__ = ["run_on_hosts"]

_ENDING_SECONDS = 5.0  # for an agent that ends, beside the grace time of its tasks


def run_on_hosts(
    options: argparse.Namespace,
    command: Sequence[str],
    make: Planner,
    check: Callable[[Cluster], None],
    crew: CrewOptions,
) -> int:
    """Runs a job on several hosts.

    Args:
        options: Those of `tfdist run`.
        command: The script's.
        make: Plans tasks of one host.
        check: Refuses what does not fit the cluster.
        crew: How the job changes its size.

    Returns:
        The exit code.

    Raises:
        ClusterError: Something is wrong with an option or a host.
        RendezvousError: A host does not answer.
    """
    spread = Spread.of(
        hosts_of(options.hosts),
        None if options.workers is None else most_of(options.workers),
        most_of(options.ps),
        options.chief,
        options.evaluator,
    )
    patience = options.rendezvous_timeout or process.rendezvous_timeout()
    connecting = Connecting(
        options.ssh or os.environ.get(SSH_VARIABLE) or "ssh",
        options.python or sys.executable,
        tuple(options.env),
        patience,
        options.grace,
        # The others wait for it meanwhile, and an elastic job would go on without it: there as long
        # as what ran on it may still be at its ports.
        options.grace + _ENDING_SECONDS if crew.ranges else patience / 2,
        options.gpus_per_task,
        options.gpu_memory,
        options.secure,
    )
    with HostGround.connected(spread, command, connecting) as ground:
        cluster = ground.cluster()
        check(cluster)

        def planned(at: Cluster, tasks: Sequence[Task]) -> JobPlan:
            return ground.plan(at, tasks, make)

        tasks = tuple(spread.places)
        plan = planned(cluster, tasks)
        if options.dry_run:
            sys.stdout.write(NOT_SECURE * options.secure + plan.shell())
            return 0
        how = {
            "log_dir": options.log_dir,
            "grace": options.grace,
            "ground": ground,
            "live": live_view(options, cluster, tasks),
        }
        return crew.job(plan, cluster, tasks, planned, **how).run().returncode
