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

Pure: imports no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from tfdist.errors import StrategyError
from tfdist.given_numbers import is_count

__all__ = [
    "SCHEDULES",
    "Slot",
    "bubble",
    "forward_only",
    "gpipe",
    "in_one_go",
    "one_f_one_b",
    "peak_alive",
    "schedule",
    "sequential",
    "text",
    "zero_bubble",
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


Order = Sequence[tuple[Direction, int]]
"""What one stage does, one after the other: directions and microbatches."""

Made = dict[Direction, int]
"""How many microbatches one stage has done, by direction."""


def gpipe(stages: int, microbatches: int) -> Iterator[Slot]:
    """All forwards, then all backwards.

    Args:
        stages: K, at least 1.
        microbatches: M, at least 1.

    Yields:
        The slots by clock, then stage.
    """
    _check(stages, microbatches)
    every = range(microbatches)
    order: Order = [("forward", m) for m in every] + [("backward", m) for m in every]
    yield from _as_soon_as_possible([order] * stages)


def one_f_one_b(stages: int, microbatches: int) -> Iterator[Slot]:
    """One forward, one backward: stage k holds the activations of at most K - k microbatches.

    Args:
        stages: K, at least 1.
        microbatches: M, at least 1.

    Yields:
        The slots by clock, then stage.
    """
    _check(stages, microbatches)
    orders: list[Order] = []
    for stage in range(stages):
        ahead = min(stages - stage, microbatches)
        order: list[tuple[Direction, int]] = [("forward", m) for m in range(ahead)]
        for m in range(microbatches):
            order.append(("backward", m))
            if m + ahead < microbatches:
                order.append(("forward", m + ahead))
        orders.append(order)
    yield from _as_soon_as_possible(orders)


def sequential(stages: int, microbatches: int) -> Iterator[Slot]:
    """One microbatch after the other, one stage after the other: what pipelining is compared with.

    Args:
        stages: K, at least 1.
        microbatches: M, at least 1.

    Yields:
        The slots by clock.
    """
    _check(stages, microbatches)
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
    _check(stages, microbatches)
    catching_up = [False] * stages

    def wishes(stage: int, made: Made) -> Order:
        left = made["backward"] - made["weights"]
        catching_up[stage] = left >= _TOGETHER or (catching_up[stage] and left > 0)
        directions: list[Direction] = ["backward", "weights"]
        if made["forward"] - made["backward"] < 2 * (stages - stage) - 1:
            directions.insert(1, "forward")
        if catching_up[stage] and made["backward"] < microbatches:
            directions = ["weights"]
        return [(d, made[d]) for d in directions if made[d] < microbatches]

    yield from _clock_by_clock(stages, wishes)


_TOGETHER = 4
"""Microbatches whose gradients of weights `zero_bubble` computes as one: more hold more memory."""


SCHEDULES: Mapping[str, Callable[[int, int], Iterator[Slot]]] = {
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "zero_bubble": zero_bubble,
    "sequential": sequential,
}
"""The schedules by the names that users give."""


def schedule(name: str, stages: int, microbatches: int) -> tuple[Slot, ...]:
    """Returns the slots of the schedule of that name.

    Raises:
        StrategyError: there is no such schedule, or a number is below 1.
    """
    if name not in SCHEDULES:
        raise StrategyError(f"schedule={name!r}: give one of {', '.join(SCHEDULES)}")
    return tuple(SCHEDULES[name](stages, microbatches))


def in_one_go(slots: Sequence[Slot]) -> Iterator[tuple[Slot, ...]]:
    """Puts together what a stage can compute as one: gradients of weights with nothing between.

    Yields:
        Every slot once, alone or with others, each where the last of them stands.
    """
    waiting: dict[int, list[Slot]] = {}
    following: dict[int, list[Slot]] = {}
    for slot in reversed(slots):
        following.setdefault(slot.stage, []).append(slot)
    for slot in slots:
        ahead = following[slot.stage]
        ahead.pop()
        together = waiting.setdefault(slot.stage, [])
        together.append(slot)
        if slot.direction != "weights" or not ahead or ahead[-1].direction != "weights":
            yield tuple(together)
            together.clear()


def forward_only(slots: Sequence[Slot]) -> tuple[Slot, ...]:
    """Returns the same schedule without its backwards, as evaluation and prediction run it."""
    forwards = [slot for slot in slots if slot.direction == "forward"]
    stages = 1 + max(slot.stage for slot in slots)
    if len({slot.clock for slot in slots}) == len(slots):  # one thing at a time stays so
        return tuple(slot._replace(clock=clock) for clock, slot in enumerate(forwards))
    orders: list[Order] = [
        [("forward", slot.microbatch) for slot in forwards if slot.stage == stage]
        for stage in range(stages)
    ]
    return tuple(_as_soon_as_possible(orders))


def bubble(slots: Sequence[Slot]) -> float:
    """Returns the share of all stages' clocks in which they wait; each slot takes one clock.

    (K - 1) / (M + K - 1) for `gpipe` and `one_f_one_b`, (K - 1) / (3 M + K - 1) to about twice that
    for `zero_bubble`, 1 - 1 / K for `sequential`.
    """
    stages = 1 + max(slot.stage for slot in slots)
    clocks = 1 + max(slot.clock for slot in slots)
    return 1 - len(slots) / (stages * clocks)


def peak_alive(slots: Sequence[Slot], stage: int) -> int:
    """Returns how many microbatches' activations a stage holds at most at the same time."""
    last = "weights" if any(slot.direction == "weights" for slot in slots) else "backward"
    alive = most = 0
    for slot in sorted(slots):
        if slot.stage == stage:
            alive += (slot.direction == "forward") - (slot.direction == last)
            most = max(most, alive)
    return most


def text(slots: Sequence[Slot]) -> str:
    """Draws a schedule with letters: a row a stage, a column a clock, `F3` for forward of 3."""
    stages = 1 + max(slot.stage for slot in slots)
    clocks = 1 + max(slot.clock for slot in slots)
    cells = {(s.stage, s.clock): f"{s.direction[0].upper()}{s.microbatch}" for s in slots}
    width = max(map(len, cells.values()))
    digits = len(str(stages - 1))
    rows = []
    for stage in range(stages):
        row = " ".join(cells.get((stage, clock), ".").ljust(width) for clock in range(clocks))
        rows.append(f"stage {stage:>{digits}} | {row.rstrip()}")
    return "\n".join(rows)


def _as_soon_as_possible(orders: Sequence[Order]) -> Iterator[Slot]:
    """Gives every slot the earliest clock at which its stage and what it needs are ready."""

    def wishes(stage: int, made: Made) -> Order:
        place = sum(made.values())
        return orders[stage][place : place + 1]

    yield from _clock_by_clock(len(orders), wishes)


def _clock_by_clock(stages: int, wishes: Callable[[int, Made], Order]) -> Iterator[Slot]:
    """Gives each stage, at every clock, the first of its wishes for which all is ready.

    Args:
        stages: K.
        wishes: takes a stage and what it has made; returns what it would do now, the dearest wish
            first, and nothing when it has done all.
    """
    done: dict[tuple[str, int, int], int] = {}
    made: list[Made] = [{"forward": 0, "backward": 0, "weights": 0} for _ in range(stages)]
    clock = 0
    while any(wished := [wishes(stage, own) for stage, own in enumerate(made)]):
        now = []
        for stage, order in enumerate(wished):
            for direction, microbatch in order:
                needs = _needs(stage, stages, direction, microbatch)
                if all(done.get(need, clock) < clock for need in needs):
                    now.append(Slot(clock, stage, microbatch, direction))
                    break
        for slot in now:
            done[slot.direction, slot.stage, slot.microbatch] = clock
            made[slot.stage][slot.direction] += 1
        yield from now
        clock += 1


def _needs(
    stage: int, stages: int, direction: Direction, microbatch: int
) -> list[tuple[str, int, int]]:
    """What must be done before a slot."""
    if direction == "forward":
        return [("forward", stage - 1, microbatch)] if stage else []
    if direction == "weights":
        return [("backward", stage, microbatch)]
    needs = [("forward", stage, microbatch)]
    if stage + 1 < stages:
        needs.append(("backward", stage + 1, microbatch))
    return needs


def _check(stages: int, microbatches: int) -> None:
    for name, value in (("stages", stages), ("microbatches", microbatches)):
        if not is_count(value):
            raise StrategyError(f"{name}={value!r}: give a number of at least 1")
