"""Callbacks that keep the states of a job, those that hear of it, and how often it is done."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tfdist.errors import CheckpointError
from tfdist.structures import Logs
from tfdist.training.loop.job_state import JobState

__all__ = ["Cadence", "Keeper", "KeptListener", "keepers_among"]


@runtime_checkable
class Keeper(Protocol):
    """A callback that keeps the states of a job.

    Attributes:
        every: epochs between two states.
        every_steps: steps between two in an epoch, or None.
        every_secs: seconds after which the next is kept, at the end of a chunk of steps; or None.
        restored: the state that training is to go on from, on the chief, once it has begun.
    """

    every: int
    every_steps: int | None
    every_secs: float | None
    restored: JobState | None

    def keep(self, state: JobState, now: bool) -> None:
        """Keeps a state, with the model as it is.

        Args:
            state: of the job, at rest.
            now: False where it was not asked for, but is perhaps the last.
        """

    def settle(self) -> None:
        """Waits until what was kept is on the disk."""


@runtime_checkable
class KeptListener(Protocol):
    """A callback that wants to know of each state that is kept, on every worker."""

    def on_state_kept(self, epoch: int, step: int, logs: Logs) -> None:
        """Is called once the chief keeps a state, but for the one that a signal has asked for.

        Args:
            epoch: how many whole epochs the model has seen.
            step: how many steps of the next one it has seen.
            logs: the metrics of the last epoch, or of these steps.
        """


def keepers_among(callbacks: Sequence[object]) -> list[Keeper]:
    """Returns those of the callbacks that keep states.

    Raises:
        CheckpointError: several would do so within epochs.
    """
    keepers = [callback for callback in callbacks if isinstance(callback, Keeper)]
    within = [k for k in keepers if k.every_steps is not None or k.every_secs is not None]
    if len(within) > 1:
        raise CheckpointError(
            f"{len(within)} Checkpoint callbacks with every_steps or every_secs: give these to one "
            "of them"
        )
    return keepers


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How often states are kept, as all workers have agreed; 0 is never.

    Attributes:
        epochs: after every so many epochs.
        steps: after every so many steps of an epoch.
        seconds: after so many.
    """

    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, keepers: Sequence[Keeper]) -> Cadence:
        """Returns what callbacks ask for."""
        return cls(
            math.gcd(*(k.every for k in keepers)),
            max((k.every_steps or 0 for k in keepers), default=0),
            max((k.every_secs or 0.0 for k in keepers), default=0.0),
        )
