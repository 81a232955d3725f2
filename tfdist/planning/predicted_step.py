"""A step of a strategy that was not run, and where its seconds would go. Pure."""

from __future__ import annotations

import dataclasses

__all__ = ["PredictedStep"]


@dataclasses.dataclass(frozen=True)
class PredictedStep:
    """What a step takes, in seconds.

    Attributes:
        strategy: as "2 workers, 1 ps".
        workers: how many compute.
        at_once: how many such steps are under way at the same time.
        rows: of one step.
        compute: of the task that computes most.
        transfer: that it waits for tensors on their way.
        update: of the weights.
        waiting: for other tasks.
        host: for the chief: the input, as far as it is not hidden, and Python between chunks of
            steps.
    """

    strategy: str
    workers: int
    at_once: int
    rows: float
    compute: float
    transfer: float
    update: float
    waiting: float
    host: float

    def __post_init__(self) -> None:
        if min(self.workers, self.at_once) < 1 or self.rows <= 0:
            raise ValueError(f"{self}: there is a worker, a step and a row at least")
        if min(self.parts.values()) < 0 or sum(self.parts.values()) <= 0:
            raise ValueError(f"{self}: no part of a step is below 0, and not all are 0")

    @property
    def parts(self) -> dict[str, float]:
        """The seconds of each part, by name."""
        names = ("compute", "transfer", "update", "waiting", "host")
        return {name: getattr(self, name) for name in names}

    @property
    def seconds(self) -> float:
        """From the end of one step to the end of the next, whoever has taken them."""
        return self.own_seconds / self.at_once

    @property
    def own_seconds(self) -> float:
        """From the beginning of one step to its end."""
        return sum(self.parts.values())

    @property
    def examples_a_second(self) -> float:
        """Rows a second of the whole job."""
        return self.rows / self.seconds
