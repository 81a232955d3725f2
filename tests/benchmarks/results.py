"""What was measured, and what is told of it: medians and spreads. Pure."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Results", "Run", "Spread"]


@dataclasses.dataclass(frozen=True)
class Spread:
    """A median, and the quartiles around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of some values, at least one."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)


@dataclasses.dataclass(frozen=True)
class Run:
    """One job: one variant on one model, from its start to its end.

    Attributes:
        group: what it was measured together with.
        model: what was trained.
        variant: how.
        restart: the number of the start; the jobs of a group with the same number took turns.
        stages: seconds of each stage of the start, for each worker.
        step_ms: milliseconds a step, for each turn.
        cpu_ms: milliseconds that a worker computed for a step, for each turn.
        foreign: share of the machine that everything else took, for each turn.
        memory_mb: the most memory each worker held.
    """

    group: str
    model: str
    variant: str
    restart: int
    stages: list[dict[str, float]]
    step_ms: list[float]
    cpu_ms: list[float]
    foreign: list[float]
    memory_mb: list[float]


@dataclasses.dataclass(frozen=True)
class Results:
    """All that one command has measured.

    Attributes:
        machine: what `machine.describe` returned.
        settings: workers, turns and steps.
        notes: what was left out, and why.
        runs: the jobs.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    notes: list[str]
    runs: list[Run]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Results:
        """Reads what `to_json` gave."""
        return cls(**{**content, "runs": [Run(**run) for run in content["runs"]]})

    def to_json(self) -> dict[str, Any]:
        """These results as JSON's types."""
        return dataclasses.asdict(self)

    def models(self, group: str) -> list[str]:
        """The models that were measured in a group, in order."""
        return list(dict.fromkeys(run.model for run in self.runs if run.group == group))

    def variants(self, group: str) -> list[str]:
        """The variants that were measured in a group, in order."""
        return list(dict.fromkeys(run.variant for run in self.runs if run.group == group))

    def spread(
        self, variant: str, model: str, of: Callable[[Run], Sequence[float]]
    ) -> Spread | None:
        """The spread of some numbers over all jobs of a variant on a model; None without any."""
        runs = [run for run in self.runs if (run.variant, run.model) == (variant, model)]
        values = [value for run in runs for value in of(run)]
        return Spread.of(values) if values else None

    def step_ms(self, variant: str, model: str) -> Spread | None:
        """Milliseconds a step."""
        return self.spread(variant, model, lambda run: run.step_ms)

    def ratio(self, variant: str, baseline: str, model: str) -> float | None:
        """The median step time over the baseline's."""
        own, other = self.step_ms(variant, model), self.step_ms(baseline, model)
        return own.median / other.median if own and other else None

    def ratio_by_turn(self, variant: str, baseline: str, model: str) -> Spread | None:
        """The spread of the step time over the baseline's in the same round."""

        def turns(name: str) -> dict[tuple[int, int], float]:
            runs = [run for run in self.runs if (run.variant, run.model) == (name, model)]
            return {(run.restart, i): ms for run in runs for i, ms in enumerate(run.step_ms)}

        own, other = turns(variant), turns(baseline)
        ratios = [own[turn] / other[turn] for turn in own if turn in other]
        return Spread.of(ratios) if ratios else None
