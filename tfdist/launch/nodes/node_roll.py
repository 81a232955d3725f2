"""Which nodes of a job are here, and who runs what once all are. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tfdist.cluster import Cluster, Task
from tfdist.launch.hosts.host_list import Host
from tfdist.launch.hosts.spread import Spread
from tfdist.launch.nodes.node import Node

__all__ = ["NodeCounts", "NodeRoll", "Part"]


@dataclass(frozen=True)
class NodeCounts:
    """How many there are of what.

    Attributes:
        nodes: Launchers in all.
        ps: Parameter servers of the job.
        chief: Whether there is a chief beside the workers.
        evaluator: Whether there is an evaluator.
    """

    nodes: int
    ps: int = 0
    chief: bool = False
    evaluator: bool = False

    def ports(self, workers: int) -> int:
        """How many ports a node may need, whichever it becomes.

        Args:
            workers: That it brings.
        """
        return workers + -(-self.ps // self.nodes) + 2


@dataclass(frozen=True)
class Part:
    """What becomes of a node.

    Attributes:
        cluster: The whole job's.
        tasks: Those of the node.
    """

    cluster: Cluster
    tasks: tuple[Task, ...]


@dataclass
class NodeRoll:
    """The nodes of a job, the first of which leads.

    Attributes:
        counts: How many there are to be.
        first: The node at whose address all meet.
        command: The script's, there.
        nodes: The others that are here, by the name of their connection.
    """

    counts: NodeCounts
    first: Node
    command: Sequence[str]
    nodes: dict[str, Node] = field(default_factory=dict, init=False)

    @property
    def is_complete(self) -> bool:
        """Whether all are here."""
        return len(self.nodes) + 1 >= self.counts.nodes

    def come(self, who: str, node: Node) -> str:
        """Takes a node in.

        Args:
            who: The name of its connection.
            node: What it says of itself.

        Returns:
            Why it cannot be, in a sentence; "" where it is in.
        """
        if fault := node.fault(self.first, self.command):
            return fault
        if self.is_complete:
            return f"{node.who} is one too many for --nnodes {self.counts.nodes}"
        self.nodes[who] = node
        return ""

    def here(self) -> str:
        """Who is here, in words."""
        names = ", ".join(node.who for node in (self.first, *self.nodes.values()))
        return f"{len(self.nodes) + 1} of {self.counts.nodes} nodes: {names}"

    def parts(self) -> dict[str, Part]:
        """What becomes of each, "" being the first; the others in the order of their hosts.

        Raises:
            ClusterError: That makes no cluster.
        """
        order = sorted(self.nodes, key=lambda who: _place(self.nodes[who]))
        nodes = [self.first, *(self.nodes[who] for who in order)]
        hosts = [Host(f"node{number}", node.workers) for number, node in enumerate(nodes)]
        counts = self.counts
        spread = Spread.of(hosts, None, counts.ps, counts.chief, counts.evaluator)
        cluster = spread.cluster([one.address for one in nodes], [one.ports for one in nodes])
        return {
            who: Part(cluster, spread.tasks_of(place)) for place, who in enumerate(["", *order])
        }


def _place(node: Node) -> tuple[str, str, int]:
    return node.host, node.address, node.pid
