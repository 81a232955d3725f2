"""Where a stream of batches stands, and what another process does to stand there, too.

A seeded stream gives the same batches to whoever does the same to it: passes over a dataset draw
the orders of its shuffles one after the other, and a `PyDataset` is told of the ends of epochs. So
a position is the list of what has been done; doing it again costs little, as no batch of an earlier
pass is made (unless only that tells how the next pass goes), and those of the last are skipped.

Random numbers that a `map` draws from a variable (those of Keras' layers) depend on all elements
before: the variable's value at the beginning of the last pass is kept.

A stream without a seed cannot be made to do the same again: its iterator's own state is kept.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Event", "Position", "RandomState"]

RandomState: TypeAlias = list[Any]
"""The states of Python's and of NumPy's generator, as JSON has them."""

Event = int | str
"""A pass, as the batches that were taken of it, or a hook of a data adapter that was called."""


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a stream stands on one worker.

    Attributes:
        events: what has been done to the stream, in order.
        begun: steps that were taken of the epoch.
        seen: steps that were taken of the pass.
        length: steps of a pass, where it is known.
        is_open: whether the last pass goes on.
        python: the state of Python's and NumPy's random numbers as the last pass began, where the
            stream draws from them; None where it does not.
        iterator: the last pass's, where nobody can draw its order again; else None.
        batch_size: rows of a global batch, where it is known.
        steps_asked: steps of an epoch, where the user has said so.
        drawn: the values of the variables from which the data draw, as the last pass began; those
            of now where the pass is not begun again.
        numbers: whether `iterator` has numbers of rows, and not rows, in its buffers.
    """

    events: tuple[Event, ...] = ()
    begun: int = 0
    seen: int = 0
    length: int | None = None
    is_open: bool = False
    python: RandomState | None = None
    iterator: list[np.ndarray] | None = None
    batch_size: int | None = None
    steps_asked: int | None = None
    drawn: tuple[np.ndarray, ...] = ()
    numbers: bool = False

    def to_tree(self) -> dict[str, object]:
        """Returns what `from_tree` takes."""
        return dict(vars(self))

    @classmethod
    def from_tree(cls, entry: dict[str, Any]) -> Position:
        """Reads what `to_tree` wrote.

        Raises:
            TypeError: it is something else.
        """
        return cls(
            **{
                **entry,
                "events": tuple(entry["events"]),
                "drawn": tuple(entry.get("drawn", ())),  # earlier checkpoints lack them
            }
        )
