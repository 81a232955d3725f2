"""How many seconds went into each phase of training."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

__all__ = ["PHASES", "Phase", "PhaseSeconds"]

Phase: TypeAlias = Literal["input", "compute", "exchange", "callbacks", "save"]

PHASES: tuple[Phase, ...] = ("input", "compute", "exchange", "callbacks", "save")
"""Each moment of a `fit` is of exactly one of these."""


@dataclass(frozen=True)
class PhaseSeconds:
    """Seconds of each phase.

    Attributes:
        input: in which nothing could be computed, as a batch was waited for; None where that
            cannot be told from computing, which then has it.
        compute: forward and backward passes, updates, validation, and what TensorFlow traces.
        exchange: in which there was nothing to do but wait for what comes of other tasks, and
            they for the slowest of them; None where that cannot be told from computing, which
            then has it, and 0 where there are no others.
        callbacks: the callbacks of `fit`, but for what they save.
        save: in which training stood still for a checkpoint or a saved model.

    Raises:
        ValueError: a number is negative, or none.
    """

    input: float | None = 0.0
    compute: float = 0.0
    exchange: float | None = 0.0
    callbacks: float = 0.0
    save: float = 0.0

    def __post_init__(self) -> None:
        for name, value in self.measured.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{value!r} seconds of {name}; give 0 or more")

    @property
    def measured(self) -> dict[Phase, float]:
        """The seconds by phase, of those that are told apart, in the order of `PHASES`."""
        found = {name: getattr(self, name) for name in PHASES}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def total(self) -> float:
        """Of all phases."""
        return sum(self.measured.values())

    def shares(self) -> dict[Phase, float]:
        """Each phase's part of the whole; they add up to 1. Empty where there are no seconds."""
        total = self.total
        return {name: value / total for name, value in self.measured.items()} if total else {}

    def since(self, before: PhaseSeconds) -> PhaseSeconds:
        """What has been added since an earlier time.

        What is told apart now and was not then, or the other way round, is not told apart.

        Args:
            before: of the same `fit`.
        """
        apart = before.measured.keys() & self.measured.keys()
        both = (self.together(apart), before.together(apart))
        values = {
            field.name: _difference(*(getattr(one, field.name) for one in both))
            for field in fields(self)
        }
        return PhaseSeconds(**values)  # type: ignore[arg-type]

    def together(self, apart: Collection[str]) -> PhaseSeconds:
        """The same, with what is not told apart from computing added to that.

        Args:
            apart: which phases are, beside computing.
        """
        added = sum(v for name, v in self.measured.items() if name not in apart)
        values = {name: v for name, v in self.measured.items() if name in apart}
        values["compute"] = values.get("compute", 0.0) + added
        return PhaseSeconds(**{"input": None, "exchange": None, **values})  # type: ignore[arg-type]

    @classmethod
    def from_tree(cls, tree: Mapping[str, float | None]) -> PhaseSeconds:
        """Of what JSON has of `to_tree`.

        Raises:
            ValueError: It is none.
        """
        if set(tree) != set(PHASES):
            raise ValueError(f"phases {sorted(tree)}; these are {', '.join(PHASES)}")
        return cls(**{name: None if v is None else float(v) for name, v in tree.items()})  # type: ignore[arg-type]

    def to_tree(self) -> dict[str, float | None]:
        """For JSON, to the microsecond."""
        found = {name: getattr(self, name) for name in PHASES}
        return {name: v if v is None else round(v, 6) for name, v in found.items()}


def _difference(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else max(0.0, now - before)
