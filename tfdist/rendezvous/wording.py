"""How a rendezvous speaks of those who are missing, in its log and in its errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tfdist.cluster.spec import Cluster
from tfdist.cluster.task import Task

if TYPE_CHECKING:
    from tfdist.rendezvous.handshake import Handshake

__all__ = [
    "MOST_TOLD",
    "Log",
    "WaitingLog",
    "late_text",
    "named",
    "seconds",
    "some_of",
    "two_claim",
]

Log = Callable[[str], None]

MOST_TOLD = 8
"""How many of those who are missing are told by name to the others."""

_MOST_NAMES = 5
_FIRST = 2.0
_EVERY = 10.0


def seconds(duration: float) -> str:
    """Writes a duration.

    Args:
        duration: In seconds.

    Returns:
        For example "10 s" or "0.8 s".
    """
    return f"{duration:.0f} s" if duration >= 10 else f"{round(duration, 1):g} s"


def named(tasks: Sequence[Task], cluster: Cluster, more: int = 0) -> str:
    """Names tasks with their addresses; of many the number, and the first few.

    Args:
        tasks: Tasks of the cluster, one or more.
        cluster: The cluster.
        more: How many more there are, where these are the first `MOST_TOLD`.

    Returns:
        For example "worker:0 (a:2222) and worker:1 (b:2222)", or "62 tasks: worker:1 (b:2222),
        ... and 58 more".
    """
    count = len(tasks) + more
    texts = [f"{task} ({cluster.address(task)})" for task in tasks[:_MOST_NAMES]]
    if count > _MOST_NAMES:
        first = ", ".join(texts[: _MOST_NAMES - 1])
        return f"{count} tasks: {first} and {count - _MOST_NAMES + 1} more"
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def some_of(tasks: Sequence[Task]) -> str:
    """Lists tasks; of many the first few.

    Args:
        tasks: Any.

    Returns:
        For example "worker:0, worker:1", or "worker:0, worker:1 and 3998 more".
    """
    if len(tasks) <= MOST_TOLD:
        return ", ".join(map(str, tasks))
    first = ", ".join(map(str, tasks[: MOST_TOLD - 1]))
    return f"{first} and {len(tasks) - MOST_TOLD + 1} more"


def late_text(
    late: Sequence[Task],
    cluster: Cluster,
    timeout: float,
    *,
    did_not: str = "come",
    detail: str = "",
    more: int = 0,
) -> str:
    """Says who was missing at the deadline, and what to do.

    Args:
        late: The missing tasks, one or more.
        cluster: The cluster.
        timeout: How long was waited for them, in seconds.
        did_not: What they did not do.
        detail: What else is known, as "2 of 3 tasks came".
        more: How many more there are, as of `named`.

    Returns:
        The message of an error.
    """
    known = f" ({detail})" if detail else ""
    them, log = ("it", "its log") if len(late) + more == 1 else ("them", "their logs")
    return (
        f"{named(late, cluster, more)} did not {did_not} within {seconds(timeout)}{known}; "
        f"start {them}, see in {log} what went wrong, or give the rendezvous a longer timeout"
    )


@dataclass
class WaitingLog:
    """Tells now and then who is still missing.

    Attributes:
        log: Takes one line an event.
        cluster: The cluster.
        timeout: How long is waited in all, in seconds.
    """

    log: Log
    cluster: Cluster
    timeout: float
    _start: float = field(default_factory=time.monotonic, init=False)
    _due: float = field(default=_FIRST, init=False)

    def tick(self, missing: Sequence[Task], more: int = 0) -> None:
        """Logs who is missing where it is time to: after 2 s, 10 s, 20 s, ...

        Args:
            missing: The missing tasks; nothing is said where there are none.
            more: How many more there are, as of `named`.
        """
        waited = time.monotonic() - self._start
        if missing and waited >= self._due:
            self._due = _EVERY * (waited // _EVERY + 1)
            self.log(
                f"waiting for {named(missing, self.cluster, more)}, {waited:.0f} s of "
                f"{seconds(self.timeout)}"
            )

    @property
    def due(self) -> float:
        """When it is time for the next line, on the clock of `time.monotonic`."""
        return self._start + self._due


def two_claim(task: Task, first: Handshake, second: Handshake) -> str:
    """Says that two processes claim to be one task."""
    return (
        f"two processes claim to be {task}: {first.who} and {second.who}; start every task once, "
        "each with its own index"
    )
