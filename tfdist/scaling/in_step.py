"""Workers in step: each takes its batch, then all sum their gradients. Pure."""

from __future__ import annotations

import dataclasses

from tfdist.scaling.hierarchy import Hierarchy, HostRing
from tfdist.scaling.ring import Ring
from tfdist.scaling.step_work import StepWork

__all__ = ["InStep"]


@dataclasses.dataclass(frozen=True)
class InStep:
    """Synchronous data parallelism.

    Attributes:
        exchange: how gradients are summed.
        hidden: the share of the computing behind which the sum can hide, 0 to 1; sums after the
            backward pass have none (tfdist's below a bucket of 4 MiB), those that begin while it
            runs have the pass (2/3, as it takes two products where the forward takes one).
        slow_by: how many times as long as the others the slowest worker takes, at least 1.

    Raises:
        ValueError: one is no such number.
    """

    exchange: Ring | HostRing | Hierarchy
    hidden: float = 0.0
    slow_by: float = 1.0

    def __post_init__(self) -> None:
        check_shares(self.hidden, self.slow_by)

    def seconds(self, work: StepWork, workers: int) -> float:
        """Seconds of a step on so many workers, each with its batch."""
        exchange = self.exchange.seconds(workers, work.size)
        slowest = self.slow_by if workers > 1 else 1.0
        return slowest * work.alone + max(0.0, exchange - self.hidden * work.compute)


def check_shares(hidden: float, slow_by: float) -> None:
    """Checks what the computing hides, and how slow a straggler is.

    Raises:
        ValueError: there is more to hide than computing, or the straggler would be faster.
    """
    if not 0 <= hidden <= 1:
        raise ValueError(f"hidden={hidden!r}: give a share of the computing, 0 to 1")
    if not 1 <= slow_by < float("inf"):
        raise ValueError(f"slow_by={slow_by!r}: give how many times as long, at least 1")
