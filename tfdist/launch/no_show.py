"""Tells early of a job in which every task may be training by itself, where nobody made a strategy.

At the end it is told of any task; but then the hours are lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tfdist.launch import announcing
from tfdist.launch.ground import Witness
from tfdist.launch.plan import JobPlan

__all__ = ["NoShow"]

_SECONDS = 30.0  # longer than a program imports, and most read their data


class NoShow:
    """Waits for the first task of a job that takes part in it.

    Args:
        plan: What this launcher runs of the job.
        seconds: How long it waits.
    """

    def __init__(self, plan: JobPlan, seconds: float = _SECONDS) -> None:
        together = plan.cluster.tasks_that_meet
        tasks = [one.task for one in plan.tasks if one.task in together]
        self._tasks = frozenset(tasks) if len(together) > 1 and not plan.plugged else frozenset()
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    def look(self, witness: Witness, say: Callable[[str], None]) -> None:
        """Says it, once, where it is time and nobody has come.

        Args:
            witness: Knows who was never seen.
            say: Shows a line.
        """
        if not self._tasks or time.monotonic() < self._due:
            return
        if self._tasks.issubset(witness.absent()):
            say(announcing.no_strategy_yet(sorted(self._tasks), self._seconds))
        self._tasks = frozenset()
