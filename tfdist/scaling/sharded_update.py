"""Workers in step that update a share of the weights each: `plug(shard_optimizer=True)`. Pure.

Each worker receives the sum of its share of the gradients (a reduce-scatter) and updates these
weights, which everybody gathers: N-1 messages and (N-1)/N B bytes, twice; so many has the ring. (Xu
et al., "Automatic cross-replica sharding of weight update in data-parallel training", 2020;
Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models", 2020,
section 7.1.)
"""

from __future__ import annotations

import dataclasses

from tfdist.scaling.hierarchy import HostRing
from tfdist.scaling.in_step import check_shares
from tfdist.scaling.ring import Ring, check_sum
from tfdist.scaling.step_work import StepWork

__all__ = ["ShardedUpdate"]


@dataclasses.dataclass(frozen=True)
class ShardedUpdate:
    """ZeRO, stages 1 and 2.

    Attributes:
        ring: whose hops all messages take.
        hidden: see `InStep`.
        slow_by: see `InStep`.

    Raises:
        ValueError: one is no such number.
    """

    ring: Ring | HostRing
    hidden: float = 0.0
    slow_by: float = 1.0

    def __post_init__(self) -> None:
        check_shares(self.hidden, self.slow_by)

    def sent(self, workers: int, size: float) -> float:
        """Bytes that each worker sends in a step, of gradients and weights of `size` bytes each."""
        check_sum(workers, size)
        return 2.0 * (workers - 1) / workers * size

    def seconds(self, work: StepWork, workers: int) -> float:
        """Seconds of a step on so many workers, each with its batch."""
        link = self.ring.hop(workers)
        exchange = link.seconds(2.0 * (workers - 1), self.sent(workers, work.size))
        slowest = self.slow_by if workers > 1 else 1.0
        own = work.compute + work.other + work.update / workers
        return slowest * own + max(0.0, exchange - self.hidden * work.compute)
