"""Which slot of a schedule runs at which clock: the earliest at which all that it needs is there.

Pure: imports no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from tfdist.errors import StrategyError
from tfdist.given_numbers import is_count

__all__ = [
    "Direction",
    "Made",
    "Order",
    "Slot",
    "Work",
    "as_soon_as_possible",
    "check_sizes",
    "clock_by_clock",
    "needs_of",
]

Direction = Literal["forward", "backward", "weights"]


class Slot(NamedTuple):
    """What one stage does at one clock.

    Attributes:
        clock: when, from 0, where every slot takes one clock.
        stage: who, from 0.
        microbatch: on what, from 0.
        direction: "forward", "backward" or "weights": of a backward that is split the second part,
            the gradients of the stage's own weights.
    """

    clock: int
    stage: int
    microbatch: int
    direction: Direction


Work = tuple[Direction, int, int]
"""What is done: a direction, of a stage, for a microbatch."""

Order = Sequence[Work]
"""What one task does, one after the other."""

Made = dict[tuple[Direction, int], int]
"""How many microbatches one task has done, by direction and stage."""


def as_soon_as_possible(orders: Sequence[Order], stages: int) -> Iterator[Slot]:
    """Gives every slot the earliest clock at which its task and what it needs are ready.

    Args:
        orders: what each task does, one after the other.
        stages: K.

    Yields:
        The slots by clock, then task.
    """

    def wishes(task: int, made: Made) -> Order:
        place = sum(made.values())
        return orders[task][place : place + 1]

    yield from clock_by_clock(len(orders), stages, wishes)


def clock_by_clock(tasks: int, stages: int, wishes: Callable[[int, Made], Order]) -> Iterator[Slot]:
    """Gives each task, at every clock, the first of its wishes for which all is ready.

    Args:
        tasks: how many do one thing at a time each.
        stages: K.
        wishes: takes a task and what it has made; returns what it would do now, the dearest wish
            first, and nothing when it has done all.

    Yields:
        The slots by clock, then task.
    """
    done: dict[Work, int] = {}
    made: list[Made] = [{} for _ in range(tasks)]
    clock = 0
    while any(wished := [wishes(task, own) for task, own in enumerate(made)]):
        now = []
        for task, order in enumerate(wished):
            for direction, stage, microbatch in order:
                needs = needs_of(direction, stage, microbatch, stages)
                if all(done.get(need, clock) < clock for need in needs):
                    now.append((task, Slot(clock, stage, microbatch, direction)))
                    break
        assert now, "an order in which nobody can go on"
        for task, slot in now:
            done[slot.direction, slot.stage, slot.microbatch] = clock
            key = slot.direction, slot.stage
            made[task][key] = made[task].get(key, 0) + 1
        yield from (slot for _, slot in now)
        clock += 1


def needs_of(direction: Direction, stage: int, microbatch: int, stages: int) -> list[Work]:
    """What must be done before a slot."""
    if direction == "forward":
        return [("forward", stage - 1, microbatch)] if stage else []
    if direction == "weights":
        return [("backward", stage, microbatch)]
    needs: list[Work] = [("forward", stage, microbatch)]
    if stage + 1 < stages:
        needs.append(("backward", stage + 1, microbatch))
    return needs


def check_sizes(**numbers: int) -> None:
    """Checks the size of a schedule.

    Raises:
        StrategyError: a number is below 1, or none.
    """
    for name, value in numbers.items():
        if not is_count(value):
            raise StrategyError(f"{name}={value!r}: give a number of at least 1")
