"""The seconds of a pipeline's step, from what one worker and two have shown. Pure.

One worker's compute of B rows is taken apart into three: what grows with the rows; the optimizer's
update; and the rest, which each run of the layers takes whatever its rows (launches of operations,
reading weights). Of a pipeline of K stages and M microbatches

    a microbatch in stage k  =  share_k (growing / M + rest)

where share_k are the stage's estimated operations over all (`layer_estimates`), a third of it
forward and two thirds backward. Its output, and the gradient of that, reach the next task
alpha + bytes / beta later (the sender goes on meanwhile), and `tfdist.pipeline.simulate` tells
when each stage has done. Then it updates its own weights, of which its share is that of the
gradients' bytes. Before the first microbatch its rows come from the chief, and at the end the
chief is told. The chief reads ahead: a step takes no less than its input.

Alpha and beta are those of `Network.link`, in which is what the model's own exchange took more than
its bytes would: tensors between stages go through the same software, and so workers in step are
counted, with which pipelines are compared. The lone worker may have hidden its input behind its
computing, which then lacks these seconds in its `Split`: all of the input is counted as computing.

Assumed: each stage has a machine as the one worker had; the default schedule and number of
microbatches; what is sent costs the sender no computing; microbatches' gradients are added for
nothing.
"""

from __future__ import annotations

import dataclasses

from tfdist.bench.model import Network, Split
from tfdist.planning.predicted_step import PredictedStep
from tfdist.planning.seen_process import LayerSize, SeenProcess
from tfdist.planning.stage_cuts import cut_layers
from tfdist.schedules.pipeline_plan import PipelinePlan
from tfdist.schedules.simulation import SlotSeconds, simulate

__all__ = ["PipelineSpeed"]

_LEAST = 1e-12
"""Seconds of a slot of a stage that computes next to nothing."""


@dataclasses.dataclass(frozen=True)
class PipelineSpeed:
    """Speed of pipelines with one stage a worker.

    Attributes:
        alone: where the step of one worker goes.
        seen: that worker.
        network: between two workers.
    """

    alone: Split
    seen: SeenProcess
    network: Network

    def step(self, stages: int) -> PredictedStep | None:
        """A step on so many workers, at least 2; None where the model cannot be cut so often."""
        cut = cut_layers(self.seen.layers, stages)
        if not cut:
            return None
        plan = PipelinePlan(tasks=tuple(f"worker:{number}" for number in range(stages)))
        microbatches = plan.microbatches
        costs = [sum(layer.operations for layer in own) for own in cut]
        each = self._by_rows / microbatches + self._by_run
        slots = [max(_LEAST, each * cost / sum(costs)) for cost in costs]
        updates = [self._update * self._part_of_gradients(own) for own in cut]
        rows = self.seen.rows / microbatches
        between = [self._send(rows * own[-1].crossing) for own in cut[:-1]]

        def ends(hand_over: list[float]) -> float:
            thirds = [one / 3 for one in slots]
            seconds = SlotSeconds(thirds, thirds, thirds, hand_over)
            last = [0.0] * stages
            for one in simulate(plan.schedule, stages, microbatches, seconds).slots:
                last[one.slot.stage] = max(last[one.slot.stage], one.end)
            return max(end + update for end, update in zip(last, updates, strict=True))

        at_once = ends([0.0] * (stages - 1))
        fed = self._send(rows * self.seen.row_bytes) + self.network.link.latency
        busiest = max(range(stages), key=lambda k: microbatches * slots[k] + updates[k])
        compute, update = microbatches * slots[busiest], updates[busiest]
        transfer = max(0.0, ends(between) - at_once) + fed
        waiting = max(0.0, at_once - compute - update)
        shown = max(0.0, self.alone.input - compute - transfer - update - waiting)
        return PredictedStep(
            strategy=f"{stages}-stage pipeline",
            workers=stages,
            at_once=1,
            rows=self.seen.rows,
            compute=compute,
            transfer=transfer,
            update=update,
            waiting=waiting,
            host=shown + self.alone.python,
        )

    @property
    def _by_rows(self) -> float:
        """Of one worker's compute what grows with the rows."""
        return self.seen.growing * self.alone.compute_at_most

    @property
    def _update(self) -> float:
        return min(self.seen.update, 1 - self.seen.growing) * self.alone.compute_at_most

    @property
    def _by_run(self) -> float:
        return max(0.0, self.alone.compute_at_most - self._by_rows - self._update)

    def _part_of_gradients(self, layers: list[LayerSize]) -> float:
        every = sum(layer.gradients for layer in self.seen.layers)
        return sum(layer.gradients for layer in layers) / every if every else 0.0

    def _send(self, size: float) -> float:
        return self.network.link.seconds(1, size)
