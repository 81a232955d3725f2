"""Who works on portions: the workers of a parameter-server job, or this process by itself."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any, Protocol

from tfdist.errors import PlugError
from tfdist.strategies import registry
from tfdist.training.loop.family import Family
from tfdist.training.parameter_server.asynchronous import Asynchronous
from tfdist.training.parameter_server.work_queue import WorkQueue

__all__ = ["OneProcess", "PortionCrew", "WorkerCrew", "crew_of"]


class PortionCrew(Protocol):
    """Takes functions, and returns what comes of them.

    Attributes:
        workers: how many are taken at once.
    """

    workers: int

    def start(self, function: Any, arguments: Sequence[Any], tag: int) -> None:
        """Hands one call out, to whoever is free."""

    def wait(self, seconds: float | None) -> tuple[int, Any] | None:
        """Returns the tag and the result of the next call that has returned.

        Args:
            seconds: how long to wait at most, and then to return None; None for as long as it
                takes.
        """

    def drain(self) -> None:
        """Waits for all that is left, and forgets it."""


class WorkerCrew:
    """The workers of a parameter-server job.

    Args:
        family: of the model.
    """

    def __init__(self, family: Asynchronous) -> None:
        self.workers = family.workers
        self._family = family
        self._queue = WorkQueue(family.coordinator)

    def start(self, function: Any, arguments: Sequence[Any], tag: int) -> None:
        """Hands one call out; see `PortionCrew`."""
        self._queue.start(function, arguments, tag)

    def wait(self, seconds: float | None) -> tuple[int, Any] | None:
        """Returns what has come next; see `PortionCrew`."""
        return self._family.wait(self._queue) if seconds is None else self._queue.wait(seconds)

    def drain(self) -> None:
        """Waits for all that is left."""
        while len(self._queue):
            self._family.wait(self._queue)


class OneProcess:
    """This process, which computes at once what it is handed."""

    workers = 1

    def __init__(self) -> None:
        self._came: collections.deque[tuple[int, Any]] = collections.deque()

    def start(self, function: Any, arguments: Sequence[Any], tag: int) -> None:
        """Makes one call; see `PortionCrew`."""
        self._came.append((tag, function(*arguments)))

    def wait(self, seconds: float | None) -> tuple[int, Any] | None:
        """Returns what has come first; see `PortionCrew`."""
        del seconds
        return self._came.popleft()

    def drain(self) -> None:
        """Forgets what is left."""
        self._came.clear()


def crew_of(family: Family) -> PortionCrew:
    """Who works on the portions of a model.

    Raises:
        PlugError: replicas take their steps together.
    """
    if isinstance(family, Asynchronous):
        registry.let_go_of_functions(family.strategy)
        return WorkerCrew(family)
    if family.layout.workers == 1 and family.layout.replicas == 1:
        return OneProcess()
    raise PlugError(
        f"L-BFGS on {family.layout.replicas} replicas in step: it works on parameter servers, or "
        'in one process; use tfdist.strategy("parameter_server") or tfdist.strategy("one_device")'
    )
