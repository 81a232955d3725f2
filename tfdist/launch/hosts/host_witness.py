"""What a launcher hears of its hosts, beside how their tasks do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfdist.cluster import Task
from tfdist.launch.hosts.host_link import HostLink
from tfdist.launch.task_process import write_beside

__all__ = ["HostWitness"]


@dataclass(frozen=True)
class HostWitness:
    """Hears from all hosts which of their tasks take part.

    Attributes:
        links: The ways to the hosts.
        log_dir: The folder of the logs, also of those that hosts keep beside the tasks'.
        say: Shows a line.
    """

    links: Sequence[HostLink]
    log_dir: Path
    say: Callable[[str], None]

    def look(self) -> None:
        """Hears what they tell; also of hosts that run no task now."""
        for link in self.links:
            link.tick()
            name = link.host.name
            for text in link.notes:
                self.say(f"host {name}: {text}")
            for file, data in link.log_parts:
                write_beside(self.log_dir, f"{name}-{file}", data)
            link.notes.clear()
            link.log_parts.clear()

    def absent(self) -> tuple[Task, ...]:
        """The tasks that were never seen, of those that should have been."""
        return tuple(task for link in self.links for task in link.absent)
