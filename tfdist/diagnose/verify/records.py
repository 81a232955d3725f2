"""What a run of the script leaves: one record of each process."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np

__all__ = ["LATE", "Failure", "LayerCall", "Note", "Part", "Record", "Result", "StepRecord"]

Numbers = dict[str, np.ndarray]


LATE = "makes its strategy after TensorFlow has run operations"
"""What a program does that runs on several workers under `tfdist run --plug` alone."""


@dataclasses.dataclass(frozen=True)
class Note:
    """Something that the program did, and where.

    Attributes:
        what: as "reads TF_CONFIG".
        line: of the user's program, as "train.py, line 41, in augment"; "" where nobody knows.
    """

    what: str
    line: str


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a run has ended before its time.

    Attributes:
        kind: the error's class, as "DataError"; "" where the process has ended without a word.
        message: its own.
        line: of the user's program.
        own: whether it is tfdist's own.
    """

    kind: str
    message: str
    line: str = ""
    own: bool = False


@dataclasses.dataclass(frozen=True)
class Part:
    """The rows that one replica was given in a step.

    Attributes:
        replica: its number.
        marks: int64 `[rows]`, equal where rows are; empty where nobody can tell.
    """

    replica: int
    marks: np.ndarray


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """What a layer has returned in a step's forward pass.

    Attributes:
        layer: its name.
        replica: whose.
        values: `[rows, ...]` where `by_row`, else of the whole.
        by_row: whether the first dimension is the replica's rows.
    """

    layer: str
    replica: int
    values: np.ndarray
    by_row: bool


@dataclasses.dataclass
class StepRecord:
    """One training step.

    Attributes:
        begin: weights and optimizer variables before it, folded, by path.
        parts: the rows of this process's replicas.
        layers: in the order of the calls.
        gradients: that an optimizer was given, by the path of the variable.
        end: weights and optimizer variables after it.
        logs: of the epoch so far, by name.
    """

    begin: Numbers = dataclasses.field(default_factory=dict)
    parts: list[Part] = dataclasses.field(default_factory=list)
    layers: list[LayerCall] = dataclasses.field(default_factory=list)
    gradients: Numbers = dataclasses.field(default_factory=dict)
    end: Numbers = dataclasses.field(default_factory=dict)
    logs: Numbers = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Result:
    """What came out between steps: the logs of an epoch, an evaluation, a prediction.

    Attributes:
        what: as "epoch 2" or "evaluate".
        after: how many steps had been taken.
        numbers: by name.
    """

    what: str
    after: int
    numbers: Numbers


@dataclasses.dataclass
class Record:
    """What one process has seen.

    Attributes:
        worker: its number; 0 for one process alone.
        steps: of all trainings, in their order.
        results: between and after them.
        outputs: of the trained model for the first step's rows, by replica, folded by row.
        lines: of the user's program, in which each layer, metric and callback was made, by name.
        kinds: of the layers and metrics, by name.
        callbacks: the user's, by name.
        notes: what the program asked and drew.
        eps: the largest relative rounding of what the model computes with.
        failure: None where the script has come to its end.
    """

    worker: int = 0
    steps: list[StepRecord] = dataclasses.field(default_factory=list)
    results: list[Result] = dataclasses.field(default_factory=list)
    outputs: list[LayerCall] = dataclasses.field(default_factory=list)
    lines: dict[str, str] = dataclasses.field(default_factory=dict)
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)
    callbacks: list[str] = dataclasses.field(default_factory=list)
    notes: list[Note] = dataclasses.field(default_factory=list)
    eps: float = 2.0**-23
    failure: Failure | None = None

    def note(self, what: str, line: str) -> None:
        """Adds a note, once."""
        if (one := Note(what, line)) not in self.notes:
            self.notes.append(one)

    def write(self, path: Path) -> None:
        """Writes it; nobody sees it before it is whole."""
        draft = path.with_suffix(".draft")
        draft.write_bytes(pickle.dumps(self))
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> Record:
        """Reads what `write` has written, in a folder that is this user's alone."""
        record = pickle.loads(path.read_bytes())
        assert isinstance(record, cls)
        return record
