"""How long a step of a pipeline takes, from what its stages take: before there is a machine for it.

Pure: imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from tfdist.errors import StrategyError
from tfdist.given_numbers import is_number
from tfdist.schedules import schedule as schedules
from tfdist.schedules.clocks import needs_of
from tfdist.schedules.timings import Timing, Timings

__all__ = ["SlotSeconds", "simulate"]

Each = float | Sequence[float]
"""Of every stage, or of each."""


@dataclasses.dataclass(frozen=True)
class SlotSeconds:
    """What one microbatch takes in a stage, in seconds or any other unit.

    Attributes:
        forward: of every stage, or of each, above 0.
        backward: the gradients of what a stage was given.
        weights: the gradients of its weights; in one slot with `backward` where a schedule does not
            split the two.
        hand_over: from the end of a slot until another task has what it needs of it, at least 0;
            at every border between two stages, or at each.

    Raises:
        StrategyError: one is no such number.
    """

    forward: Each = 1.0
    backward: Each = 1.0
    weights: Each = 1.0
    hand_over: Each = 0.0

    def __post_init__(self) -> None:
        for name in ("forward", "backward", "weights"):
            value = getattr(self, name)
            own = value if isinstance(value, list | tuple) else [value]
            if not own or not all(is_number(one, above=0) for one in own):
                raise StrategyError(
                    f"{name}={value!r}: give seconds above 0, of all stages or each"
                )
        between = self.hand_over
        for one in between if isinstance(between, list | tuple) else [between]:
            if one != 0 and not is_number(one, above=0):
                raise StrategyError(f"hand_over={between!r}: give seconds, at least 0")

    @classmethod
    def of_timings(cls, timings: Timings, hand_over: Each = 0.0) -> SlotSeconds:
        """Takes what a measured step's slots took, by stage.

        Args:
            timings: as `tfdist.pipeline.measure` returns them. Where its schedule does not split
                backwards, half of each counts as that of the weights.
            hand_over: see the class.
        """
        found: dict[tuple[str, int], list[float]] = {}
        for one in timings.slots:
            key = one.slot.direction, one.slot.stage
            found.setdefault(key, []).append(one.end - one.begin)
        stages = range(timings.stages)
        splits = any(direction == "weights" for direction, _ in found)

        def of(direction: str, part: float = 1.0) -> list[float]:
            return [part * statistics.median(found[direction, stage]) for stage in stages]

        if splits:
            return cls(of("forward"), of("backward"), of("weights"), hand_over)
        return cls(of("forward"), of("backward", 0.5), of("backward", 0.5), hand_over)

    def of(self, direction: str, stage: int, splits: bool) -> float:
        """Returns what one slot takes.

        Args:
            direction: "forward", "backward" or "weights".
            stage: from 0.
            splits: whether gradients of weights have slots of their own.
        """
        own = _of_stage(getattr(self, direction), stage)
        if direction == "backward" and not splits:
            own += _of_stage(self.weights, stage)
        return own

    def check_for(self, stages: int) -> None:
        """Checks that there are as many as stages.

        Raises:
            StrategyError: there are not.
        """
        for name in ("forward", "backward", "weights"):
            value = getattr(self, name)
            if isinstance(value, list | tuple) and len(value) != stages:
                raise StrategyError(
                    f"{name} has {len(value)} numbers for {stages} stages: give one for each"
                )
        between = self.hand_over
        if isinstance(between, list | tuple) and len(between) != stages - 1:
            raise StrategyError(
                f"hand_over has {len(between)} numbers for {stages} stages: give one for each of "
                f"the {stages - 1} borders between them"
            )


def simulate(
    schedule: str,
    stages: int,
    microbatches: int,
    seconds: SlotSeconds | None = None,
    *,
    tasks: int | None = None,
) -> Timings:
    """Returns when each slot of a step would begin and end, each as soon as it can in its order.

    Args:
        schedule: one of `SCHEDULES`.
        stages: K.
        microbatches: M.
        seconds: what a microbatch takes; by default each of the three parts 1.
        tasks: how many share the stages; by default each has one, or two under "interleaved" and
            "zb_v".

    Raises:
        StrategyError: there is no such schedule, or a number does not fit it.

    Example:
        >>> one_f_one_b = simulate("1f1b", 3, 8)
        >>> speed_up = 3 * 8 * 3 / one_f_one_b.seconds  # 3 stages, 8 microbatches, 3 parts
        >>> round(speed_up, 2)
        2.4
    """
    seconds = seconds or SlotSeconds()
    if tasks is None:
        tasks = max(1, stages // schedules.stages_a_task(schedule))
    slots = schedules.schedule(schedule, stages, microbatches, tasks)
    seconds.check_for(stages)
    placement = schedules.placement(schedule, stages, tasks)
    splits = any(slot.direction == "weights" for slot in slots)
    in_a_row = schedule == "sequential"
    free = [0.0] * tasks
    ended: dict[tuple[str, int, int], float] = {}
    timings = []
    for slot in slots:
        task = placement[slot.stage]
        begin = max(free) if in_a_row else free[task]
        for need in needs_of(slot.direction, slot.stage, slot.microbatch, stages):
            elsewhere = placement[need[1]] != task
            border = min(need[1], slot.stage)
            wait = _of_stage(seconds.hand_over, border) if elsewhere else 0.0
            begin = max(begin, ended[need] + wait)
        end = begin + seconds.of(slot.direction, slot.stage, splits)
        ended[slot.direction, slot.stage, slot.microbatch] = free[task] = end
        timings.append(Timing(slot, begin, end))
    names = tuple(f"task {task}" for task in placement) if tasks < stages else ()
    return Timings(tuple(timings), names)


def _of_stage(value: Each, stage: int) -> float:
    return float(value[stage] if isinstance(value, list | tuple) else value)  # type: ignore[arg-type]
