"""All that the doctors of a job have seen, put together: pure data, which the checks judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tfdist.cluster import Cluster
from tfdist.diagnose.doctor.host_facts import HostFacts

__all__ = ["OUTCOMES", "Reach", "Visit", "to_be_reached"]

OUTCOMES = ("met", "closed", "silent", "other")
"""A doctor answered; the host answers that nobody listens; no answer; something else."""

_ALL_PAIRS = 32
_NEIGHBOURS = 8


@dataclass(frozen=True)
class Reach:
    """What came of one task's attempt to reach another.

    Attributes:
        outcome: One of `OUTCOMES`.
        detail: What was met instead, or the system's own words.
        seconds: From a word to its answer, where a doctor was met.
    """

    outcome: str
    detail: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome {self.outcome!r}; one of {', '.join(OUTCOMES)}")


@dataclass(frozen=True)
class Visit:
    """What was seen.

    Attributes:
        cluster: The job; None where nobody tells of one.
        facts: Of each task whose doctor is here; of "" alone where this machine has no task.
        is_whole: Whether the doctors of all tasks were waited for, by the chief's.
        waited: How long they were, in seconds.
        offsets: How many seconds each task's clock is before the chief's.
        reached: By who tried and whom.
        refused: What is wrong with those that came and were not let in.
        unlike: How tasks that came differ from the chief in their spec.
        folders: Whether each task sees the chief's run folder.
        ports: Why tasks of this machine, which has none of its own, cannot listen; "" if they can.
    """

    cluster: Cluster | None
    facts: Mapping[str, HostFacts]
    is_whole: bool = False
    waited: float = 0.0
    offsets: Mapping[str, float] = field(default_factory=dict)
    reached: Mapping[tuple[str, str], Reach] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    folders: Mapping[str, bool] = field(default_factory=dict)
    ports: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """The tasks whose doctors were waited for and did not come."""
        if self.cluster is None or not self.is_whole:
            return ()
        return tuple(name for name in map(str, self.cluster.tasks) if name not in self.facts)


def to_be_reached(cluster: Cluster, task: str) -> tuple[str, ...]:
    """Whom a task tries to reach: all others; in a large job the chief and its next neighbours.

    Args:
        cluster: The job.
        task: Which.
    """
    tasks = [str(one) for one in cluster.tasks_that_meet]
    others = [name for name in tasks if name != task]
    if len(tasks) <= _ALL_PAIRS or task == str(cluster.chief) or task not in tasks:
        return tuple(others)
    at = tasks.index(task)
    ring = [*tasks[at + 1 :], *tasks[:at]][:_NEIGHBOURS]
    return tuple(dict.fromkeys([str(cluster.chief), *ring]))
