"""The first difference of two runs, in the order in which a step makes its numbers."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from tfdist.diagnose.verify.gathered import Gathered, Step
from tfdist.diagnose.verify.rounding import Key, Rounding, distance

__all__ = ["STAGES", "Comparison", "Difference", "compare", "distances"]

_MISSING = float("inf")
"""The size of a difference where one side has nothing."""

_INCOMPARABLE = float("nan")
"""The size where nobody can tell: each replica's whole has a shape of its own."""

STAGES = (
    "weights before the step",
    "rows",
    "output of a layer",
    "gradient",
    "weights after the step",
    "metric",
    "result",
    "prediction",
    "end",
)
"""What is compared, in the order in which it comes about."""

BEFORE, ROWS, LAYER, GRADIENT, AFTER, METRIC, RESULT, PREDICTION, END = STAGES


_NOISE = 0.01
"""A number that rounding alone may change by so much (a gradient that is zero) tells nothing."""

_NOISE_UNITS = 64.0
"""Nor does one that it may change by so many units of the last place, where these are larger."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """One number, or array of them, that is not the same.

    Attributes:
        step: the number of the step, from 1.
        stage: one of `STAGES`.
        name: of the variable, the layer, the metric.
        size: relative to the length of the array; infinite where one side has none, or another
            shape.
        allowed: how far rounding may bring it.
        place: where it is among its step's, for comparing which of two comes first.
        worker: whose it is, where each has its own.
        ratio: what one process' is to be multiplied by to give the workers'; None where no one
            number does.
    """

    step: int
    stage: str
    name: str
    size: float
    allowed: float
    place: int = 0
    worker: int | None = None
    ratio: float | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts differences by when they come about."""
        return self.step, STAGES.index(self.stage), self.place


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How two runs compare.

    Attributes:
        differences: those of the first step that has any, in their order; of those only followed.
        largest: of all that was compared in all steps, where it is.
        steps: how many were compared.
        compared: how many arrays were.
        left_out: how many were not: rounding alone may change them by more than 1 % (of less than
            float32: 64 units of the last place), or each replica's has a shape of its own.
        names: of those left out, once each, by stage and name.
        is_blind: whether every gradient of the first step is among them.
    """

    differences: tuple[Difference, ...]
    largest: Difference | None
    steps: int
    compared: int = 0
    left_out: int = 0
    names: tuple[str, ...] = ()
    is_blind: bool = False

    @property
    def first(self) -> Difference | None:
        """The first difference; None where the runs are equal."""
        return self.differences[0] if self.differences else None

    @property
    def is_equal(self) -> bool:
        """Whether all is equal, but for rounding."""
        return not self.differences


def compare(
    one: Gathered, many: Gathered, rounding: Rounding, *, only_first: bool = True
) -> Comparison:
    """Compares a run on workers with one in one process.

    Args:
        one: in one process.
        many: on the workers, or another one in one process.
        rounding: what may differ.
        only_first: whether to keep the differences of the first step that has any, or all.
    """
    found: list[Difference] = []
    left: list[Difference] = []
    largest: Difference | None = None
    compared = gradients = 0
    noise = max(_NOISE, _NOISE_UNITS * rounding.eps)
    for difference in _measured(one, many, rounding):
        gradients += difference.step == 1 and difference.stage == GRADIENT
        if difference.size > difference.allowed:
            found.append(difference)
        elif math.isnan(difference.size) or difference.allowed > noise:
            left.append(difference)
        else:
            compared += 1
            if largest is None or difference.size > largest.size:
                largest = difference
    found.sort(key=lambda one: one.order)
    if found and only_first:
        found = [one for one in found if one.step == found[0].step]
    blind = sum(one.step == 1 and one.stage == GRADIENT for one in left)
    return Comparison(
        tuple(found),
        largest,
        min(len(one.steps), len(many.steps)),
        compared,
        len(left),
        tuple(dict.fromkeys(f"{one.stage} {one.name}" for one in left)),
        is_blind=0 < gradients == blind,
    )


def distances(one: Gathered, other: Gathered) -> list[tuple[int, Key, float]]:
    """How far all numbers of two runs are apart, by step and key."""
    measured = _measured(one, other, Rounding())
    return [(d.step, (d.stage, d.name), d.size) for d in measured]


def _measured(one: Gathered, many: Gathered, rounding: Rounding) -> Iterator[Difference]:
    """All that can be compared, whether it differs or not."""
    for i, (a, b) in enumerate(zip(one.steps, many.steps, strict=False)):
        yield from _of_step(i + 1, a, b, rounding)
    yield from _of_results(one, many, rounding)
    after = max(1, len(one.steps))
    outputs = one.outputs(), many.outputs()
    if outputs[0] is not None and outputs[1] is not None:
        yield _difference(after, PREDICTION, "outputs", outputs[0], outputs[1], rounding)
    if one.failure is None and many.failure is not None:
        last = max(1, len(many.steps))
        yield Difference(last, END, many.failure.kind, float("inf"), 0.0)
    elif many.failure is None and len(one.steps) != len(many.steps):
        last = min(len(one.steps), len(many.steps)) + 1
        yield Difference(last, END, "number of steps", float("inf"), 0.0)


def _of_step(number: int, one: Step, many: Step, rounding: Rounding) -> Iterator[Difference]:
    for stage in (BEFORE, GRADIENT, AFTER, METRIC):
        own = _numbers(one, 0, stage)
        for worker in range(len(many.each)):
            others = _numbers(many, worker, stage)
            pairs = _paired(own, others)
            for place, (name, a, b) in enumerate(pairs):
                yield _difference(number, stage, name, a, b, rounding, place, worker)
            # An optimizer may make its variables before the first step, or in it.
            made = one.each[0].end.keys() & many.each[worker].end if stage == BEFORE else ()
            for place, name in enumerate(_unpaired(own, others), len(own)):
                if name not in made:
                    yield Difference(number, stage, name, _MISSING, 0.0, place, worker)
    same = Counter(one.marks.tolist()) == Counter(many.marks.tolist())
    if len(one.marks) or len(many.marks):
        yield Difference(number, ROWS, "rows", 0.0 if same else _apart(one, many), 0.0)
    if same:
        yield from _of_layers(number, one, many, rounding)


def _of_layers(number: int, one: Step, many: Step, rounding: Rounding) -> Iterator[Difference]:
    orders = one.order(), many.order()
    for place, ((name, a, in_one), (_, b, in_many)) in enumerate(
        zip(one.layers, many.layers, strict=False)
    ):
        by_row = in_one and in_many  # a worker that has gathered all rows has a whole
        if by_row and len(a) == len(orders[0]) and len(b) == len(orders[1]):
            a, b = a[orders[0]], b[orders[1]]
        if a.shape != b.shape and not by_row:  # a replica's whole, of fewer rows than the batch
            yield Difference(number, LAYER, name, _INCOMPARABLE, 0.0, place)
        else:
            yield _difference(number, LAYER, name, a, b, rounding, place)
    both = min(len(one.layers), len(many.layers))
    for place, (name, *_) in enumerate((*one.layers[both:], *many.layers[both:]), both):
        yield Difference(number, LAYER, name, _INCOMPARABLE, 0.0, place)


def _of_results(one: Gathered, many: Gathered, rounding: Rounding) -> Iterator[Difference]:
    for record in many.records[:1]:
        for a, b in zip(one.results, record.results, strict=False):
            if a.what != b.what:
                named = f"{a.what} in one process, {b.what} on the workers"
                yield Difference(max(1, a.after), RESULT, named, _MISSING, 0.0)
                return
            for place, (name, x, y) in enumerate(_paired(a.numbers, b.numbers)):
                named = f"{a.what}: {name}" if name else a.what
                yield _difference(max(1, a.after), RESULT, named, x, y, rounding, place)
            for place, name in enumerate(_unpaired(a.numbers, b.numbers), len(a.numbers)):
                named = f"{a.what}: {name}"
                yield Difference(max(1, a.after), RESULT, named, _MISSING, 0.0, place)
        if one.failure is None and many.failure is None:
            both = min(len(one.results), len(record.results))
            for result in (*one.results[both:], *record.results[both:]):
                yield Difference(max(1, result.after), RESULT, result.what, _MISSING, 0.0)


def _numbers(step: Step, worker: int, stage: str) -> dict[str, np.ndarray]:
    record = step.each[worker]
    return {
        BEFORE: record.begin,
        GRADIENT: record.gradients,
        AFTER: record.end,
        METRIC: record.logs,
    }[stage]


def _paired(
    own: dict[str, np.ndarray], others: dict[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """By name; by place, where names were made anew."""
    if own.keys() & others.keys() or len(own) != len(others):
        for name, value in own.items():
            if name in others:
                yield name, value, others[name]
        return
    for (name, value), other in zip(own.items(), others.values(), strict=True):
        yield name, value, other


def _unpaired(own: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> list[str]:
    """The names that only one side has; none where they were made anew."""
    if own.keys().isdisjoint(others) and len(own) == len(others):
        return []
    return [*(name for name in own if name not in others), *(n for n in others if n not in own)]


def _difference(
    step: int,
    stage: str,
    name: str,
    one: np.ndarray,
    other: np.ndarray,
    rounding: Rounding,
    place: int = 0,
    worker: int | None = None,
) -> Difference:
    size = distance(one, other)
    allowed = rounding.allowed(step, (stage, name))
    ratio = _ratio(one, other, allowed) if stage == GRADIENT and size > allowed else None
    return Difference(step, stage, name, size, allowed, place, worker, ratio)


def _ratio(one: np.ndarray, other: np.ndarray, allowed: float) -> float | None:
    """The one number that a gradient was multiplied by, if there is one."""
    square = float(one.reshape(-1) @ one.reshape(-1)) if one.shape == other.shape else 0.0
    if not square:
        return None
    ratio = float(one.reshape(-1) @ other.reshape(-1)) / square
    return ratio if distance(ratio * one, other) <= max(allowed, 1e-5) else None


def _apart(one: Step, many: Step) -> float:
    """The part of the rows that only one of two steps has."""
    a, b = Counter(one.marks.tolist()), Counter(many.marks.tolist())
    return sum(((a - b) + (b - a)).values()) / max(1, len(one.marks) + len(many.marks))
