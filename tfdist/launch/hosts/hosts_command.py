"""`tfdist run --hosts`: its options, and the job that they make."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from tfdist import command_line, process
from tfdist.cluster import Cluster, Task
from tfdist.launch.crew.crew_options import CrewOptions
from tfdist.launch.hosts.host_ground import Connecting, HostGround, Planner
from tfdist.launch.hosts.host_list import hosts_of
from tfdist.launch.hosts.spread import Spread
from tfdist.launch.job import Job
from tfdist.launch.plan import JobPlan

__all__ = ["SSH_VARIABLE", "add_options", "check_options", "run_on_hosts"]

SSH_VARIABLE = "TFDIST_SSH"
"""The SSH client, where --ssh does not say."""


def add_options(parser: command_line.Parser) -> None:
    """Adds the options of a job on several hosts.

    Args:
        parser: That of `tfdist run`.
    """
    group = parser.add_argument_group("a job on several hosts, over SSH")
    parser.option(
        group,
        "--hosts",
        metavar="A,B,...",
        help="which hosts, as a,b or node[1-4], or a file with one a line, and slots=N behind it; "
        "each has the script, the data and the same versions (default: a worker on each)",
    )
    parser.option(
        group,
        "--python",
        metavar="PATH",
        help="the Python interpreter on each host (default: the path of this one)",
    )
    parser.option(
        group,
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="a variable that goes along, beside those of TensorFlow, Keras, tfdist and Python; "
        "may be given several times",
    )
    parser.option(
        group,
        "--ssh",
        metavar="COMMAND",
        help="the SSH client, as 'ssh -F FILE' (default: TFDIST_SSH, else ssh)",
    )


def check_options(parser: command_line.Parser, options: argparse.Namespace) -> None:
    """Refuses options that do not go together.

    Args:
        parser: That of `tfdist run`.
        options: What it has read.
    """
    if options.hosts is None:
        given = [name for name in ("python", "env", "ssh") if getattr(options, name)]
        if given:
            parser.error(f"--{given[0]} without --hosts; give the hosts")
        return
    if options.cluster is not None:
        parser.error("--hosts with --cluster, whose file says where the tasks are; give one")
    if options.isolate == "on":
        parser.error("--isolate on with --hosts, whose tasks reach each other; leave it out")


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
    workers = options.workers
    spread = Spread.of(
        hosts_of(options.hosts),
        getattr(workers, "most", workers),
        options.ps,
        options.chief,
        options.evaluator,
    )
    how = Connecting(
        options.ssh or os.environ.get(SSH_VARIABLE) or "ssh",
        options.python or sys.executable,
        tuple(options.env),
        options.rendezvous_timeout or process.rendezvous_timeout(),
        options.grace,
    )
    with HostGround.connected(spread, command, how) as ground:
        cluster = ground.cluster()
        check(cluster)

        def planned(at: Cluster, tasks: Sequence[Task]) -> JobPlan:
            return ground.plan(at, tasks, make)

        tasks = tuple(spread.places)
        plan = planned(cluster, tasks)
        if options.dry_run:
            sys.stdout.write(plan.shell())
            return 0
        log_dir, grace = options.log_dir, options.grace
        if crew.are_needed(cluster, tasks):
            job: Job = crew.job(
                cluster, tasks, planned, log_dir=log_dir, grace=grace, ground=ground
            )
        else:
            restarts = options.max_restarts
            job = Job(plan, max_restarts=restarts, log_dir=log_dir, grace=grace, ground=ground)
        return job.run().returncode
