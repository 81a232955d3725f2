"""Schedules of a pipeline as pure data: which stage does which microbatch, which way, and when.

Three stages and four microbatches under GPipe (Huang et al., 2019, figure 2c), a column a clock:

    stage 0 | F0 F1 F2 F3 .  .  .  .  B0 B1 B2 B3
    stage 1 | .  F0 F1 F2 F3 .  .  B0 B1 B2 B3 .
    stage 2 | .  .  F0 F1 F2 F3 B0 B1 B2 B3 .  .

and under 1F1B (PipeDream-Flush; Narayanan et al., 2021, figure 4), equally long, but stage k holds
the activations of at most K - k microbatches at a time instead of all M:

    stage 0 | F0 F1 F2 .  .  B0 F3 B1 .  B2 .  B3
    stage 1 | .  F0 F1 .  B0 F2 B1 F3 B2 .  B3 .
    stage 2 | .  .  F0 B0 F1 B1 F2 B2 F3 B3 .  .

A zero-bubble schedule (after Qi et al., 2023) splits the backward: B computes the gradients that
the stage before waits for, W those of the stage's own weights, which nobody waits for, so that they
fill the time in which a stage would wait. Two stages:

    stage 0 | F0 F1 F2 B0 F3 B1 W0 B2 W1 B3 W2 W3 .
    stage 1 | .  F0 B0 F1 B1 F2 B2 F3 B3 W0 W1 W2 W3

In `interleaved` are those in which a task has several stages that do not follow each other.

Pure: imports no TensorFlow.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping, Sequence

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
from tfdist.schedules.interleaved import interleaved, zb_v

__all__ = [
    "SCHEDULES",
    "Slot",
    "bubble",
    "forward_only",
    "gpipe",
    "in_one_go",
    "interleaved",
    "one_f_one_b",
    "peak_alive",
    "placement",
    "schedule",
    "sequential",
    "stages_a_task",
    "text",
    "zb_v",
    "zero_bubble",
]


def gpipe(stages: int, microbatches: int) -> Iterator[Slot]:
    """All forwards, then all backwards.

    Args:
        stages: K, at least 1.
        microbatches: M, at least 1.

    Yields:
        The slots by clock, then stage.
    """
    check_sizes(stages=stages, microbatches=microbatches)
    ways: tuple[Direction, Direction] = ("forward", "backward")
    yield from as_soon_as_possible(
        [[(way, stage, m) for way in ways for m in range(microbatches)] for stage in range(stages)],
        stages,
    )


def one_f_one_b(stages: int, microbatches: int) -> Iterator[Slot]:
    """One forward, one backward: stage k holds the activations of at most K - k microbatches.

    Args:
        stages: K, at least 1.
        microbatches: M, at least 1.

    Yields:
        The slots by clock, then stage.
    """
    check_sizes(stages=stages, microbatches=microbatches)
    orders: list[Order] = []
    for stage in range(stages):
        ahead = min(stages - stage, microbatches)
        order: list[Work] = [("forward", stage, m) for m in range(ahead)]
        for m in range(microbatches):
            order.append(("backward", stage, m))
            if m + ahead < microbatches:
                order.append(("forward", stage, m + ahead))
        orders.append(order)
    yield from as_soon_as_possible(orders, stages)


def sequential(stages: int, microbatches: int) -> Iterator[Slot]:
    """One microbatch after the other, one stage after the other: what pipelining is compared with.

    Args:
        stages: K, at least 1.
        microbatches: M, at least 1.

    Yields:
        The slots by clock.
    """
    check_sizes(stages=stages, microbatches=microbatches)
    clock = 0
    for m in range(microbatches):
        for stage in range(stages):
            yield Slot(clock, stage, m, "forward")
            clock += 1
        for stage in reversed(range(stages)):
            yield Slot(clock, stage, m, "backward")
            clock += 1


def zero_bubble(stages: int, microbatches: int) -> Iterator[Slot]:
    """Backwards in two parts, the gradients of weights where a stage would wait, or four at a time.

    As in ZB-H2 (Qi et al., 2023, figure 3), stage k runs at most 2 (K - k) - 1 forwards ahead of
    its backwards, so that it does not wait for the first of them. Unlike there, gradients of
    weights are left until those of four microbatches can be computed as one, or there is nothing
    else to do; a stage holds what they need of at most 2 (K - k) + 2 microbatches. All take less
    than 3 M + 2 K - 1 clocks; GPipe and 1F1B, whose backwards take two, 3 (M + K - 1).

    Args:
        stages: K, at least 1.
        microbatches: M, at least 1.

    Yields:
        The slots by clock, then stage.
    """
    check_sizes(stages=stages, microbatches=microbatches)
    catching_up = [False] * stages

    def wishes(stage: int, made: Made) -> Order:
        done = {direction: made.get((direction, stage), 0) for direction in _DIRECTIONS}
        left = done["backward"] - done["weights"]
        catching_up[stage] = left >= _TOGETHER or (catching_up[stage] and left > 0)
        directions: list[Direction] = ["backward", "weights"]
        if done["forward"] - done["backward"] < 2 * (stages - stage) - 1:
            directions.insert(1, "forward")
        if catching_up[stage] and done["backward"] < microbatches:
            directions = ["weights"]
        return [(d, stage, done[d]) for d in directions if done[d] < microbatches]

    yield from clock_by_clock(stages, stages, wishes)


_DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "weights")

_TOGETHER = 4
"""Microbatches whose gradients of weights `zero_bubble` computes as one: more hold more memory."""


SCHEDULES: Mapping[str, Callable[[int, int], Iterator[Slot]]] = {
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "zero_bubble": zero_bubble,
    "interleaved": interleaved,
    "zb_v": zb_v,
    "sequential": sequential,
}
"""The schedules by the names that users give."""


def schedule(
    name: str, stages: int, microbatches: int, tasks: int | None = None
) -> tuple[Slot, ...]:
    """Returns the slots of the schedule of that name.

    Args:
        name: one of `SCHEDULES`.
        stages: K, at least 1.
        microbatches: M, at least 1.
        tasks: how many share the stages; by default one for each, or for two ("interleaved",
            "zb_v").

    Raises:
        StrategyError: there is no such schedule, or a number does not fit it.
    """
    if name not in SCHEDULES:
        raise StrategyError(f"schedule={name!r}: give one of {', '.join(SCHEDULES)}")
    if tasks is not None:
        check_sizes(stages=stages, tasks=tasks)
        if name == "zb_v" and stages != 2 * tasks:
            raise StrategyError(
                f"schedule='zb_v' with {stages} stages on {tasks} tasks: give two for each task"
            )
    if name == "interleaved":
        return tuple(interleaved(stages, microbatches, tasks))
    return tuple(SCHEDULES[name](stages, microbatches))


def stages_a_task(name: str) -> int:
    """Returns how many stages of a schedule a task has where nobody says: 2 or 1."""
    return 2 if name in ("interleaved", "zb_v") else 1


def placement(name: str, stages: int, tasks: int) -> tuple[int, ...]:
    """Returns the task of each stage, counted from 0.

    Under "interleaved" they go round; under "zb_v" to the last task and back; else those of a task
    follow each other.
    """
    if name == "interleaved":
        return tuple(stage % tasks for stage in range(stages))
    if name == "zb_v":
        return tuple(min(stage, stages - 1 - stage) for stage in range(stages))
    return tuple(stage * tasks // stages for stage in range(stages))


def in_one_go(
    slots: Sequence[Slot], tasks: Sequence[int] | None = None
) -> Iterator[tuple[Slot, ...]]:
    """Puts together what a stage can compute as one: gradients of weights with nothing between.

    Args:
        slots: of a schedule.
        tasks: the task of each stage; None is one for each.

    Yields:
        Every slot once, alone or with others, each where the last of them stands.
    """
    row = _rows(slots, tasks)
    waiting: dict[int, list[Slot]] = {}
    following: dict[int, list[Slot]] = {}
    for slot in reversed(slots):
        following.setdefault(row[slot.stage], []).append(slot)
    for slot in slots:
        ahead = following[row[slot.stage]]
        ahead.pop()
        together = waiting.setdefault(slot.stage, [])
        together.append(slot)
        alike = {(one.direction, one.stage) for one in (slot, *ahead[-1:])}
        if not ahead or alike != {("weights", slot.stage)}:
            yield tuple(together)
            together.clear()


def forward_only(slots: Sequence[Slot], tasks: Sequence[int] | None = None) -> tuple[Slot, ...]:
    """Returns the same schedule without its backwards, as evaluation and prediction run it."""
    forwards = [slot for slot in slots if slot.direction == "forward"]
    if len({slot.clock for slot in slots}) == len(slots):  # one thing at a time stays so
        return tuple(slot._replace(clock=clock) for clock, slot in enumerate(forwards))
    row = _rows(slots, tasks)
    orders: list[Order] = [
        [("forward", slot.stage, slot.microbatch) for slot in forwards if row[slot.stage] == task]
        for task in range(1 + max(row))
    ]
    return tuple(as_soon_as_possible(orders, len(row)))


def bubble(slots: Sequence[Slot], tasks: Sequence[int] | None = None) -> float:
    """Returns the share of all tasks' clocks in which they wait; each slot takes one clock.

    (K - 1) / (M + K - 1) for `gpipe` and `one_f_one_b`, (K - 1) / (3 M + K - 1) to about twice that
    for `zero_bubble`, 1 - 1 / K for `sequential`; for T tasks with V stages each (T - 1) / (V M +
    T - 1) for `interleaved`, (T - 1) / (6 M + T - 1) for `zb_v`.
    """
    rows = 1 + max(_rows(slots, tasks))
    clocks = 1 + max(slot.clock for slot in slots)
    return 1 - len(slots) / (rows * clocks)


def peak_alive(slots: Sequence[Slot], task: int, tasks: Sequence[int] | None = None) -> int:
    """Returns how many microbatches' activations a task holds at most at the same time.

    Those of each of its stages count by themselves.
    """
    row = _rows(slots, tasks)
    last = "weights" if any(slot.direction == "weights" for slot in slots) else "backward"
    alive = most = 0
    for slot in sorted(slots):
        if row[slot.stage] == task:
            alive += (slot.direction == "forward") - (slot.direction == last)
            most = max(most, alive)
    return most


def text(slots: Sequence[Slot], tasks: Sequence[int] | None = None) -> str:
    """Draws a schedule with letters: a row a task, a column a clock, `F3` for forward of 3.

    Where a task has several stages, `F3a` is of its first, `F3b` of its second.
    """
    row = _rows(slots, tasks)
    several = len(set(row)) < len(row)
    rank = [row[:stage].count(task) for stage, task in enumerate(row)]
    cells = {
        (row[s.stage], s.clock): f"{s.direction[0].upper()}{s.microbatch}"
        + (string.ascii_letters[rank[s.stage]] if several else "")
        for s in slots
    }
    width = max(map(len, cells.values()))
    clocks = range(1 + max(slot.clock for slot in slots))
    digits = len(str(max(row)))
    name = "task" if several else "stage"
    lines = []
    for task in range(1 + max(row)):
        line = " ".join(cells.get((task, clock), ".").ljust(width) for clock in clocks)
        lines.append(f"{name} {task:>{digits}} | {line.rstrip()}")
    return "\n".join(lines)


def _rows(slots: Sequence[Slot], tasks: Sequence[int] | None) -> Sequence[int]:
    """The task of each stage, each its own where nothing is said."""
    return tasks if tasks is not None else range(1 + max(slot.stage for slot in slots))
