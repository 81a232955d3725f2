"""The job that chaos disturbs: which launchers it has, on this machine or on several hosts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdist.cluster import Cluster
from tfdist.cluster.crew_size import Size, most_of
from tfdist.command_line import Parser
from tfdist.diagnose.namespace_hosts import Hosts
from tfdist.errors import ClusterError

__all__ = ["DisturbedJob", "spread"]

_PORT = 5001
_SHAPE = ("--workers", "--ps", "--chief")


@dataclass(frozen=True)
class DisturbedJob:
    """What is run in each round.

    Attributes:
        options: of `tfdist run`.
        command: the script, and its own arguments.
        hosts: where it runs; None for this machine alone.
        tasks: then, those of the job, in the cluster's order; each has a launcher of its own.
    """

    options: tuple[str, ...]
    command: tuple[str, ...]
    hosts: Hosts | None = None
    tasks: tuple[str, ...] = ()

    def launchers(self, folder: Path) -> dict[str, list[object]]:
        """The command of each launcher, by the task that it runs; "launcher" where it runs all.

        Args:
            folder: where a cluster spec may be written.
        """
        run: list[object] = [sys.executable, "-m", "tfdist", "run", *self.options]
        if self.hosts is None:
            return {"launcher": [*run, *self.command]}
        spec = folder / "cluster.json"
        jobs: dict[str, list[str]] = {}
        for task in self.tasks:
            address = f"{self.hosts.addresses[self.host_of(task)]}:{_PORT + self._rank(task)}"
            jobs.setdefault(task.partition(":")[0], []).append(address)
        spec.write_text(json.dumps({"cluster": jobs}))
        return {
            task: self.hosts.on(
                self.host_of(task), [*run, "--cluster", spec, "--task", task, *self.command]
            )
            for task in self.tasks
        }

    def host_of(self, task: str) -> int:
        """The number of a task's host: they take turns."""
        assert self.hosts is not None
        return self.tasks.index(task) % len(self.hosts.addresses)

    def _rank(self, task: str) -> int:
        """How many tasks before this one have its host."""
        assert self.hosts is not None
        return self.tasks.index(task) // len(self.hosts.addresses)


def spread(parser: Parser, words: Sequence[str], count: int) -> tuple[list[str], list[str]]:
    """Takes the shape of a job from the options of `tfdist run`.

    Args:
        parser: of `tfdist run`.
        words: its options, as it has split them off.
        count: the number of hosts.

    Returns:
        The tasks of the job, in the cluster's order, and the options that are left.

    Raises:
        ClusterError: such a job cannot be spread over so many hosts.
    """
    options: Any = parser.parse_args(list(words))
    if options.cluster is not None or options.evaluator:
        raise ClusterError(
            "--hosts spreads the tasks of --workers, --ps and --chief over hosts that it makes: "
            "leave out --cluster and --evaluator"
        )
    shape = (most_of(options.workers), most_of(options.ps), options.chief)
    ports = range(_PORT, _PORT + Cluster.task_count(*shape, False))
    tasks = [str(task) for task in Cluster.local(*shape, ports=ports).tasks]
    if not 2 <= count <= len(tasks):
        raise ClusterError(
            f"--hosts {count} for a job of {len(tasks)} tasks ({', '.join(tasks)}); give 2 or more "
            "hosts, and a task for each"
        )
    ranges = {"--workers": options.workers, "--ps": options.ps}
    kept: list[str] = []
    left = list(words)
    while left:
        name, equals, _ = left[0].partition("=")
        length = 2 if parser.takes_value[name] and not equals else 1
        elastic = isinstance(ranges.get(name), Size)
        if name not in _SHAPE or elastic:
            kept += left[:length]
        left = left[length:]
    return tasks, kept
