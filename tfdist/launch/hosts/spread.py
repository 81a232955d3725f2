"""Which task of a job runs on which host. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfdist.cluster import Cluster, Task
from tfdist.cluster.address import Address
from tfdist.errors import ClusterError
from tfdist.launch.hosts.host_list import Host

__all__ = ["Spread"]


@dataclass(frozen=True)
class Spread:
    """A job's tasks and their hosts.

    Attributes:
        hosts: Those of the job.
        places: The number of its host for each task, in the cluster's order, an evaluator beside
            the cluster last.
    """

    hosts: tuple[Host, ...]
    places: Mapping[Task, int]

    @classmethod
    def of(
        cls,
        hosts: Sequence[Host],
        workers: int | None = None,
        ps: int = 0,
        chief: bool = False,
        evaluator: bool = False,
    ) -> Spread:
        """Spreads tasks over hosts: neighbours in number share a host.

        Args:
            hosts: In order; the first has the chief, the last the evaluator.
            workers: How many; None for as many as the hosts have slots, one where they do not say.
            ps: How many parameter servers; one or more bring a chief with them.
            chief: Whether there is a chief beside the workers.
            evaluator: Whether there is an evaluator.

        Raises:
            ClusterError: The counts make no cluster, or more workers than slots.
        """
        room = [host.slots or 1 for host in hosts]
        count = sum(room) if workers is None else workers
        # With parameter servers, an evaluator works beside the cluster, not in it.
        inside = evaluator and not ps
        size = Cluster.task_count(count, ps, chief, inside)
        tasks = Cluster.local(count, ps, chief, inside, ports=range(1, size + 1)).tasks
        if evaluator and not inside:
            tasks += (Task("evaluator", 0),)
        if any(host.slots for host in hosts):
            if count > sum(room):
                raise ClusterError(
                    f"{count} workers for {sum(room)} slots of {len(hosts)} hosts; give fewer "
                    "--workers, or more slots in the hosts file"
                )
            of_workers = [place for place, slots in enumerate(room) for _ in range(slots)]
        else:
            of_workers = _evenly(count, len(hosts))
        of_ps = _evenly(ps, len(hosts))
        last = len(hosts) - 1
        places = {}
        for task in tasks:
            by_type = {"worker": of_workers, "ps": of_ps, "chief": [0], "evaluator": [last]}
            places[task] = by_type[task.type][task.index]
        return cls(tuple(hosts), places)

    def tasks_of(self, place: int) -> tuple[Task, ...]:
        """The tasks of a host, in order."""
        return tuple(task for task, at in self.places.items() if at == place)

    def ports_of(self, place: int) -> int:
        """How many ports the tasks of a host need."""
        beside = self._has_ps
        return sum(not (beside and task.type == "evaluator") for task in self.tasks_of(place))

    def cluster(self, addresses: Sequence[str], ports: Sequence[Sequence[int]]) -> Cluster:
        """The cluster of these tasks.

        Args:
            addresses: Of each host.
            ports: Of each host, one for each of its tasks that needs one.
        """
        left = [list(of_host) for of_host in ports]
        jobs: dict[str, list[str]] = {}
        for task, place in self.places.items():
            if not (self._has_ps and task.type == "evaluator"):
                address = Address(addresses[place], left[place].pop(0))
                jobs.setdefault(task.type, []).append(str(address))
        return Cluster({job: tuple(at) for job, at in jobs.items()})

    def text(self) -> str:
        """The hosts with their tasks, in words."""
        hosts = [
            f"{host.name}: {', '.join(map(str, tasks))}"
            for place, host in enumerate(self.hosts)
            if (tasks := self.tasks_of(place))
        ]
        return "; ".join(hosts)

    @property
    def _has_ps(self) -> bool:
        return any(task.type == "ps" for task in self.places)


def _evenly(count: int, hosts: int) -> list[int]:
    return [number * hosts // count for number in range(count)]
