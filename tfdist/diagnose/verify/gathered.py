"""The records of all processes of a run as one: rows in one order, whoever had them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tfdist.diagnose.verify.records import Failure, LayerCall, Note, Record, Result, StepRecord

__all__ = ["Gathered", "Step"]


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a run.

    Attributes:
        each: of every process, its record.
        marks: of all rows, in the order of the replicas.
        layers: what each call of a layer has returned for all rows.
    """

    each: tuple[StepRecord, ...]
    marks: np.ndarray
    layers: tuple[tuple[str, np.ndarray, bool], ...]

    def order(self) -> np.ndarray:
        """The places of the rows, sorted by their marks: equal batches come in one order."""
        return np.argsort(self.marks, kind="stable")


@dataclasses.dataclass(frozen=True)
class Gathered:
    """A run.

    Attributes:
        records: of all its processes.
        steps: those that all processes have ended, or begun.
    """

    records: tuple[Record, ...]
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Gathered:
        """Brings the records of all processes together."""
        count = min(len(record.steps) for record in records)
        steps = [_step([record.steps[i] for record in records]) for i in range(count)]
        return cls(tuple(records), tuple(steps))

    @property
    def first(self) -> Record:
        """The record of the first process, which holds what is the same on all."""
        return self.records[0]

    @property
    def failure(self) -> Failure | None:
        """Why it has failed; what only followed from another worker's failure comes last."""
        failures = [record.failure for record in self.records if record.failure is not None]
        causes = [one for one in failures if one.kind not in ("", "TaskLost", "TaskLeft")]
        return next(iter([*causes, *failures]), None)

    @property
    def notes(self) -> list[Note]:
        """What the program asked and drew, on any process, once each."""
        return list(dict.fromkeys(note for record in self.records for note in record.notes))

    @property
    def results(self) -> list[Result]:
        """What the first process has found between the steps."""
        return self.first.results

    def outputs(self) -> np.ndarray | None:
        """What the trained model makes of the first step's rows, in their order."""
        if not self.steps or any(not record.outputs for record in self.records):
            return None
        calls = [call for record in self.records for call in record.outputs]
        found = _by_replica(calls, {call.replica for call in calls})
        if found is None or len(found) != len(self.steps[0].marks):
            return None
        return found[self.steps[0].order()]

    def read_twice(self) -> int:
        """How many rows two processes have had in the same step."""
        count = 0
        for step in self.steps:
            own = [
                Counter(int(mark) for part in record.parts for mark in part.marks)
                for record in step.each
            ]
            for i, one in enumerate(own):
                count += sum(sum((one & other).values()) for other in own[i + 1 :])
        return count


def _step(each: Sequence[StepRecord]) -> Step:
    parts = sorted((part for record in each for part in record.parts), key=lambda p: p.replica)
    marks = [part.marks for part in parts]
    calls: dict[int, list[LayerCall]] = {}
    for record in each:
        for call in record.layers:
            calls.setdefault(call.replica, []).append(call)
    layers = []
    for at_once in zip(*(calls[replica] for replica in sorted(calls)), strict=False):
        values = _by_replica(at_once, {call.replica for call in at_once})
        if values is not None:
            layers.append((at_once[0].layer, values, at_once[0].by_row))
    return Step(tuple(each), np.concatenate(marks) if marks else np.zeros(0, np.int64), (*layers,))


def _by_replica(calls: Sequence[LayerCall], replicas: set[int]) -> np.ndarray | None:
    """The rows of all replicas, in their order; of what is no rows, the first replica's."""
    ordered = sorted(calls, key=lambda call: call.replica)
    if not ordered[0].by_row:
        return ordered[0].values
    if len({call.values.shape[1:] for call in ordered}) > 1:
        return None
    del replicas
    return np.concatenate([call.values for call in ordered])
