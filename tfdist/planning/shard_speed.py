"""The seconds of a step in which each worker updates its share of the weights alone. Pure.

This is `tfdist.plug(model, shard_optimizer=True)` (ZeRO, stages 1 and 2): each of N workers
receives the sum of its share of the gradients, updates that share of the weights, and gathers the
others'.

    step = compute without the update + exchange + update / N + input + Python

A reduce-scatter and an all-gather send as many bytes as the all-reduce in whose place they are, so
that the exchange is that of workers in step (Rajbhandari et al., "ZeRO: memory optimizations toward
training trillion parameter models", 2020, section 7.1).
"""

from __future__ import annotations

import dataclasses

from tfdist.planning.predicted_step import PredictedStep
from tfdist.planning.seen_process import SeenProcess
from tfdist.planning.step_speed import StepSpeed

__all__ = ["ShardSpeed", "sharded_name"]


def sharded_name(workers: int) -> str:
    """What such a job is called, as "2 workers, shard_optimizer"."""
    return f"{workers} workers, shard_optimizer"


@dataclasses.dataclass(frozen=True)
class ShardSpeed:
    """Speed of workers in step that keep a share of the optimizer each.

    Attributes:
        speed: theirs without that.
        seen: one worker, whose update is known.
    """

    speed: StepSpeed
    seen: SeenProcess

    def step(self, workers: int) -> PredictedStep:
        """A step of so many workers, of at least 2."""
        split = self.speed.split(workers)
        whole = min(self.seen.update * self.speed.alone.compute_at_most, split.compute)
        return PredictedStep(
            strategy=sharded_name(workers),
            workers=workers,
            at_once=1,
            rows=self.speed.rows_of(workers),
            compute=split.compute - whole,
            transfer=split.all_reduce,
            update=whole / workers,
            waiting=0.0,
            host=split.input + split.python,
        )
