"""How far a job has come, for whoever draws it: read from what its tasks tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tfdist.steps_told import Steps, StepsReader

__all__ = ["JobSteps", "Rate", "StepsOfChief", "StepsSource"]


@dataclass(frozen=True)
class JobSteps:
    """How far a job has come.

    Attributes:
        doing: In words: "epoch 2/8", "evaluating".
        done: Steps of all epochs that are done; None where nobody knows how many there will be.
        total: Steps of all epochs; None likewise.
        epoch_done: Of this epoch alone, in words: "40/157"; "" where it does not matter.
        examples_per_second: Over all workers; 0 where it is not known.
        metrics: Those that are shown beside the bar.
    """

    doing: str
    done: int | None = None
    total: int | None = None
    epoch_done: str = ""
    examples_per_second: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)


class StepsSource(Protocol):
    """Knows how far a job has come."""

    def newest(self) -> JobSteps | None:
        """What is known now; None where there is nothing yet. Called a few times a second."""


class StepsOfChief:
    """The chief's steps, which tell for all: it is in step with the others, or counts for them."""

    def __init__(self, reader: StepsReader, chief: str) -> None:
        """Prepares it.

        Args:
            reader: Reads what the tasks tell.
            chief: The chief's name.
        """
        self._reader, self._chief, self._rate = reader, chief, Rate()

    def newest(self) -> JobSteps | None:
        """See `StepsSource`."""
        told = self._reader.newest().get(self._chief)
        if told is None:
            return None
        self._rate.take(told)
        shown = {name: told.logs[name] for name in ("loss",) if name in told.logs}
        trains = told.mode == "train"
        known = told.steps
        return JobSteps(
            doing=f"epoch {told.epoch + 1}/{told.epochs}" if trains else "evaluating",
            done=told.epoch * known + told.step if known and trains else None,
            total=known * told.epochs if known else None,
            epoch_done=f"{told.step}/{known or '?'}" if trains else "",
            examples_per_second=self._rate.examples,
            metrics=shown if trains else {},
        )


class Rate:
    """Examples a second, over the steps of one epoch.

    Attributes:
        examples: That many; 0 where it is not known yet.
    """

    def __init__(self) -> None:
        self.examples = 0.0
        self._first: Steps | None = None

    def take(self, steps: Steps) -> None:
        """Takes what was told last; what is no training is left out."""
        if steps.mode != "train":
            return
        first = self._first
        if first is None or steps.epoch != first.epoch or steps.step < first.step or not first.step:
            self._first = steps  # validation, and the first step's tracing, are no training
        elif steps.rows and steps.at > first.at:
            self.examples = (steps.step - first.step) * steps.rows / (steps.at - first.at)
