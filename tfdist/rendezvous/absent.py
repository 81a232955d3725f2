"""Who is still missing at a rendezvous: told by the first few, whatever the number."""

from __future__ import annotations

from collections.abc import Iterable

from tfdist.cluster.task import Task

__all__ = ["Absent"]

_AHEAD = 16


class Absent:
    """The tasks that are not here, in the cluster's order.

    What is asked of it for each task that comes does not depend on how many there are.

    Args:
        tasks: Who must come, in the cluster's order; nobody is here yet.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._order = {task: number for number, task in enumerate(tasks)}
        self._names = {str(task): task for task in self._order}
        self._absent = dict.fromkeys(self._order)
        self._first: list[Task] = []

    def __len__(self) -> int:
        return len(self._absent)

    def named(self, name: str) -> Task | None:
        """The task of that name, be it here or not; None where nobody of that name must come."""
        return self._names.get(name)

    def remove(self, task: Task) -> None:
        """Notes that a task has come."""
        del self._absent[task]

    def add(self, task: Task) -> None:
        """Notes that it has gone again."""
        self._absent[task] = None
        self._first = []

    def first(self, most: int) -> list[Task]:
        """The first few.

        Args:
            most: How many at most; always the same.
        """
        self._first = [task for task in self._first if task in self._absent]
        if len(self._first) < min(most, len(self._absent)):
            # Looked for once for so many tasks that come, and not for each of them.
            found = sorted(self._absent, key=self._order.__getitem__)
            self._first = found[: most * _AHEAD]
        return self._first[:most]
