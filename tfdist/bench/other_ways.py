"""What other ways to train would bring on more workers, from what was measured in step. Pure."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from tfdist.bench.measured import Measured
from tfdist.scaling.hierarchy import Hierarchy, HostRing, check_tasks
from tfdist.scaling.in_step import InStep
from tfdist.scaling.link import Link
from tfdist.scaling.parameter_servers import ParameterServers
from tfdist.scaling.pipeline_replicas import PipelineReplicas
from tfdist.scaling.sharded_update import ShardedUpdate
from tfdist.scaling.step_work import StepWork

__all__ = [
    "MICROBATCHES",
    "SLOW_BY",
    "STAGES",
    "WORKERS_EACH",
    "Hosts",
    "Way",
    "efficiency",
    "share_that_trains",
    "ways",
]

SLOW_BY = 2.0
"""How many times as long as the others a slow worker takes."""
STAGES = 2
MICROBATCHES = 8
WORKERS_EACH = 2
"""Workers for one parameter server."""


class Way(Protocol):
    """A way to train."""

    def seconds(self, work: StepWork, workers: int) -> float:
        """Seconds in which so many workers train as many batches."""


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The hosts that more workers would be on.

    Attributes:
        tasks: on each of them, at least 1.
        between: the link between two of them, of which messages have no more than was measured;
            None is the one that was measured.

    Raises:
        ValueError: `tasks` is no such number.
    """

    tasks: int = 4
    between: Link | None = None

    def __post_init__(self) -> None:
        check_tasks(self.tasks)


def ways(measured: Measured, hosts: Hosts) -> dict[str, Way]:
    """Returns the ways by their names in the report; those with a * have one slow worker.

    Raises:
        ValueError: no job of two workers was measured.
    """
    network = measured.network
    if network is None:
        raise ValueError("no job of two workers was measured")
    within = network.link
    # Messages between hosts go through the software that was measured, and then over the wire.
    between = within if hosts.between is None else hosts.between.slower(within)
    sums = Hierarchy(between, within, hosts.tasks)
    flat = HostRing(sums)
    return {
        "ring": InStep(flat),
        "hosts": InStep(sums),
        "shares": ShardedUpdate(flat),
        "pipelines": PipelineReplicas(STAGES, MICROBATCHES, flat, hand_over=sums.between.latency),
        "servers": ParameterServers(sums, WORKERS_EACH),
        "ring *": InStep(flat, slow_by=SLOW_BY),
        "servers *": ParameterServers(sums, WORKERS_EACH, slow_by=SLOW_BY),
        "backups *": ParameterServers(sums, WORKERS_EACH, slow_by=SLOW_BY, backups=1),
    }


def efficiency(measured: Measured, way: Way, workers: int) -> float:
    """The efficiency of a way, over the base of the measured one, and over servers, too."""
    share = measured.share(way.seconds(measured.work, workers))
    return share * share_that_trains(way, workers)


def share_that_trains(way: Way, workers: int) -> float:
    """The share of a job's tasks that are workers: all, but where there are servers."""
    servers = way.servers(workers) if isinstance(way, ParameterServers) else 0
    return workers / (workers + servers)
