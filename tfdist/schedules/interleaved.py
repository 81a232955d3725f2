"""Schedules in which a task has several stages that do not follow each other.

A microbatch passes every task several times, on fewer layers each time, so that the tasks behind
the first begin sooner.

Pure: imports no TensorFlow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tfdist.errors import StrategyError
from tfdist.schedules.clocks import (
    Direction,
    Made,
    Order,
    Slot,
    Work,
    as_soon_as_possible,
    check_sizes,
    clock_by_clock,
)

__all__ = ["interleaved", "zb_v"]

_Way = tuple[Direction, int]
"""A direction, of a stage."""


def interleaved(stages: int, microbatches: int, tasks: int | None = None) -> Iterator[Slot]:
    """One forward, one backward, with the stages dealt out to the tasks in turn.

    T tasks with V stages each take 2 V M + 2 (T - 1) clocks, each of 1/V of a task's layers, where
    M is a multiple of T (Narayanan et al., 2021, figure 4: "Efficient Large-Scale Language Model
    Training on GPU Clusters Using Megatron-LM"); with any other M, no more than with the next
    multiple. Task t holds at most T (V - 1) + 2 (T - t) - 1 microbatches, of a stage each.

    Args:
        stages: K, a multiple of the tasks; stage k is task k mod T's.
        microbatches: M, at least 1.
        tasks: T; by default half as many as stages.

    Yields:
        The slots by clock, then task.

    Raises:
        StrategyError: the stages do not divide into the tasks, or a number is below 1.
    """
    check_sizes(stages=stages, microbatches=microbatches)
    if tasks is None:
        tasks = max(1, stages // 2)
    check_sizes(tasks=tasks)
    if stages % tasks:
        raise StrategyError(
            f"schedule='interleaved' with {stages} stages on {tasks} tasks: give each task as many "
            f"stages, {tasks}, {2 * tasks} or {3 * tasks}, say"
        )
    each = stages // tasks
    rounds = [range(low, min(low + tasks, microbatches)) for low in range(0, microbatches, tasks)]
    forwards = [(turn, m) for own in rounds for turn in range(each) for m in own]
    backwards = [(turn, m) for own in rounds for turn in reversed(range(each)) for m in own]

    def wishes(task: int, made: Made) -> Order:
        gone = sum(count for (direction, _), count in made.items() if direction == "forward")
        back = sum(made.values()) - gone
        forward: list[Work] = [
            ("forward", turn * tasks + task, m) for turn, m in forwards[gone : gone + 1]
        ]
        backward: list[Work] = [
            ("backward", turn * tasks + task, m) for turn, m in backwards[back : back + 1]
        ]
        ahead = 2 * (tasks - task - 1) + tasks * (each - 1)
        first, second = (forward, backward) if gone - back <= ahead else (backward, forward)
        if first and not microbatches % tasks:
            return first
        return first + second  # in a round that is not full, what comes first may never be ready

    yield from clock_by_clock(tasks, stages, wishes)


def zb_v(stages: int, microbatches: int) -> Iterator[Slot]:
    """Backwards in two parts, on stages that go to the last task and back: the shape of a V.

    Task t has the stages t and K - 1 - t, so that the first task has the last stage, too, and its
    first backward follows its forward. Where M is at least K - 1, no task waits once it has begun,
    each with activations of at most K microbatches, of a stage each: as many as under 1F1B
    (ZB-V of Qi et al., 2024: "Pipeline Parallelism with Controllable Memory").

    Args:
        stages: K, an even number: two for each task.
        microbatches: M, at least 1.

    Yields:
        The slots by clock, then task.

    Raises:
        StrategyError: the number of stages is odd, or a number is below 1.
    """
    check_sizes(stages=stages, microbatches=microbatches)
    if stages % 2:
        raise StrategyError(f"schedule='zb_v' with {stages} stages: give two for each task")
    tasks = stages // 2
    orders = [
        [one for one in _down_and_up(task, tasks, microbatches) if one[2] < microbatches]
        for task in range(tasks)
    ]
    yield from as_soon_as_possible(orders, stages)


def _down_and_up(task: int, tasks: int, microbatches: int) -> Order:
    """What a task does under ZB-V, with as many microbatches at least as fill the V."""
    way_down, way_up = task, 2 * tasks - 1 - task
    whole = max(microbatches, 2 * tasks - 1)
    order: list[Work] = []
    made: Counter[_Way] = Counter()

    def do(*ways: _Way, times: int = 1) -> None:
        for way in ways * times:
            order.append((*way, made[way]))
            made[way] += 1

    down: _Way = ("forward", way_down)
    up: _Way = ("forward", way_up)
    back_up: _Way = ("backward", way_up)
    back_down: _Way = ("backward", way_down)
    weights_up: _Way = ("weights", way_up)
    weights_down: _Way = ("weights", way_down)

    do(down, times=2 * (tasks - task) - 1)
    do(up, down, times=task)
    do(up, back_up, weights_up, times=tasks - task)
    while made[up] < made[down] or made[down] < whole:
        if made[down] < whole:
            do(down)
        do(back_down, weights_down, up, back_up, weights_up)
    do(back_down, back_up, times=task)
    do(back_down, weights_down, times=tasks - task)
    do(weights_up, times=whole - made[weights_up])
    do(weights_down, times=whole - made[weights_down])
    return order
