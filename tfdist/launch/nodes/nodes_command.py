"""`tfdist run --rendezvous`: the part of the job that its options make of this launcher."""

from __future__ import annotations

import argparse
import dataclasses
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from tfdist import process
from tfdist.cluster import Cluster, Task
from tfdist.cluster.address import Address
from tfdist.launch.crew.crew_options import CrewOptions
from tfdist.launch.gpu_shares import GpuSupply
from tfdist.launch.ground import ThisMachine
from tfdist.launch.hosts.survey import Survey
from tfdist.launch.live.chosen_view import live_view
from tfdist.launch.nodes.node import Node
from tfdist.launch.nodes.node_meeting import NodeMeeting
from tfdist.launch.nodes.node_roll import NodeCounts, NodeRoll
from tfdist.launch.plan import JobPlan
from tfdist.launch.secure import SecureMachine
from tfdist.machine.ports import Reservation

__all__ = ["run_as_node"]

_ALIKE = ("nnodes", "ps", "chief", "evaluator", "max_restarts", "plug", "plug_options", "secure")


class NodePlanner(Protocol):
    """Plans tasks of this machine: `make_plan`, with the script and its options."""

    def __call__(self, cluster: Cluster, *, tasks: Sequence[Task], gpus: GpuSupply) -> JobPlan:
        """See `make_plan`."""


def run_as_node(
    options: argparse.Namespace,
    command: Sequence[str],
    make: NodePlanner,
    check: Callable[[Cluster], None],
    crew: CrewOptions,
) -> int:
    """Meets the other launchers, and runs this one's tasks.

    Args:
        options: Those of `tfdist run`.
        command: The script's.
        make: Plans tasks of this machine.
        check: Refuses what does not fit the cluster.
        crew: How launchers decide together.

    Returns:
        The exit code.

    Raises:
        ClusterError: An option is wrong.
        RendezvousError: The launchers have not come together.
    """
    place = Address.parse(options.rendezvous)
    workers = 1 if options.workers is None else options.workers
    counts = NodeCounts(options.nnodes, options.ps, options.chief, options.evaluator)
    with Reservation(counts.ports(workers)) as ports:
        wants = {f"--{name}": str(getattr(options, name)) for name in _ALIKE}
        own = Node(
            socket.gethostname(),
            os.getpid(),
            place.host,
            workers,
            ports.ports,
            {**wants, "the script": " ".join(command)},
            Survey.here(command),
        )
        patience = options.rendezvous_timeout or process.rendezvous_timeout()
        roll = NodeRoll(counts, own, command)
        part = NodeMeeting(place, roll, process.secret(), patience, _say).part()
        check(part.cluster)
        gpus = GpuSupply.here(os.environ, options.gpus_per_task, options.gpu_memory)

        def planned(at: Cluster, tasks: Sequence[Task]) -> JobPlan:
            return make(at, tasks=tasks, gpus=gpus)

        how = {
            "log_dir": options.log_dir,
            "grace": options.grace,
            "prefix": len(part.tasks) > 1,
            "ground": SecureMachine() if options.secure else ThisMachine(options.isolate),
            "live": live_view(options, part.cluster, part.tasks, prefix=len(part.tasks) > 1),
        }
        crew = dataclasses.replace(crew, port=crew.port or place.port)
        plan = planned(part.cluster, part.tasks)
        return crew.job(plan, part.cluster, part.tasks, planned, **how).run().returncode


def _say(text: str) -> None:
    sys.stderr.write(f"[tfdist] {text}\n")
    sys.stderr.flush()
