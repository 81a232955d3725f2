"""What a task tells of its progress: a line of JSON, twice a second."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tfdist.progress.phase_seconds import PHASES, PhaseSeconds

__all__ = ["Record", "RecordReader", "Span"]

_LONGEST_LINE = 1 << 16
_METRICS = ("logs", "validation")


@dataclass(frozen=True)
class Span:
    """A phase that has ended.

    Attributes:
        phase: one of `PHASES`.
        began: seconds, by the clock of the task's machine.
        seconds: how long it took.
        step: steps of the epoch that were begun by then.
    """

    phase: str
    began: float
    seconds: float
    step: int = 0

    def __post_init__(self) -> None:
        if self.phase not in PHASES or not self.seconds >= 0:
            raise ValueError(f"{self.seconds!r} seconds of {self.phase!r}; no span")


@dataclass(frozen=True)
class Record:
    """How far a task is.

    Attributes:
        at: when, in seconds of `time.monotonic` on the task's machine.
        fit: which call of `fit` it is in, or was in last, from 1; 0 before the first.
        phase: one of `PHASES`; "" outside of `fit`.
        still: seconds for which nothing has moved.
        epoch: from 0.
        epochs: how many there will be.
        step: steps of the epoch that have been taken.
        steps: of an epoch; None where nobody knows yet.
        batch: rows of a global batch; None where nobody knows yet.
        seconds: by phase, since `fit` began.
        logs: the newest metrics, finite or not.
        validation: those of the newest validation, by the names that `fit` gives them.
        saving: whether a checkpoint is being written beside the training.
        spans: phases that have ended since the record before, where anybody wants to know.

    Raises:
        ValueError: a value is none that there can be.
    """

    at: float
    fit: int = 0
    phase: str = ""
    still: float = 0.0
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int | None = None
    batch: int | None = None
    seconds: PhaseSeconds = field(default_factory=PhaseSeconds)
    logs: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    saving: bool = False
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        if self.phase and self.phase not in PHASES:
            raise ValueError(f"phase {self.phase!r}; these are {', '.join(PHASES)}")
        counts = (self.fit, self.epoch, self.epochs, self.step, self.steps or 0, self.batch or 0)
        if not all(isinstance(one, int) and one >= 0 for one in counts):
            raise ValueError(f"a count of {counts}; give whole numbers from 0 on")
        if not (math.isfinite(self.at) and math.isfinite(self.still)):
            raise ValueError(f"a time of {self.at!r} s, still for {self.still!r} s")

    def to_line(self) -> bytes:
        """As JSON, with its line end."""
        tree = asdict(self) | {
            "seconds": self.seconds.to_tree(),
            **{
                which: {name: _as_text(value) for name, value in getattr(self, which).items()}
                for which in _METRICS
            },
            "spans": [
                [one.phase, round(one.began, 6), round(one.seconds, 6), one.step]
                for one in self.spans
            ],
        }
        return json.dumps(tree, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """Reads what `to_line` has written.

        Raises:
            ValueError: it is none.
        """
        try:
            tree: dict[str, Any] = json.loads(line)
            tree["seconds"] = PhaseSeconds.from_tree(tree["seconds"])
            for which in _METRICS:
                tree[which] = {str(name): float(value) for name, value in tree[which].items()}
            tree["spans"] = tuple(Span(*one) for one in tree["spans"])
            return cls(**tree)
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"no record of progress: {error}") from None


class RecordReader:
    """Puts records together from the bytes of one task, however they are cut.

    What is no record is passed over: the progress of a job is nothing to end it for.
    """

    def __init__(self) -> None:
        self._read = bytearray()

    def feed(self, data: bytes) -> list[Record]:
        """Takes the next bytes; returns the records that they complete, the oldest first."""
        self._read += data
        *lines, rest = bytes(self._read).split(b"\n")
        self._read = bytearray() if len(rest) > _LONGEST_LINE else bytearray(rest)
        records = []
        for line in lines:
            try:
                records.append(Record.from_line(line))
            except ValueError:
                continue
        return records


def _as_text(value: float) -> float | str:
    """JSON has no word for what is not finite; `float` reads these."""
    return value if math.isfinite(value) else str(value)
