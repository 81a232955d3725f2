"""Records as a run might leave them, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdist.diagnose.verify.records import Failure, LayerCall, Part, Record, StepRecord

MARKS = np.arange(8)


def step(
    number: int,
    rows: Sequence[int] = range(8),
    replica: int = 0,
    *,
    weight: float = 1.0,
    output: float = 1.0,
    gradient: float = 1.0,
    loss: float = 1.0,
) -> StepRecord:
    """A step of a model of one layer; numbers other than 1 are factors."""
    places = np.asarray(rows)
    weights = np.arange(1.0, 4.0) / number * weight
    outputs = np.stack([places + 1.0, places + 2.0], 1) * output
    return StepRecord(
        begin={"dense/kernel": weights},
        parts=[Part(replica, MARKS[places])],
        layers=[LayerCall("dense", replica, outputs, by_row=True)],
        gradients={"dense/kernel": np.ones(3) * gradient},
        end={"dense/kernel": weights / 2},
        logs={"loss": np.asarray([2.0 * loss])},
    )


def run(steps: int = 3, *, at: int = 0, failure: Failure | None = None, **factors: Any) -> Record:
    """One process; `factors` are those of step `at`."""
    each = [step(i, **(factors if i == at else {})) for i in range(1, steps + 1)]
    return Record(steps=each, kinds={"dense": "Dense"}, failure=failure)


def workers(
    steps: int = 3, *, at: int = 0, failure: Failure | None = None, **factors: Any
) -> list[Record]:
    """Two workers that share the rows."""
    records = []
    for worker, rows in enumerate((range(4), range(4, 8))):
        each = [step(i, rows, worker, **(factors if i == at else {})) for i in range(1, steps + 1)]
        records.append(Record(worker, each, kinds={"dense": "Dense"}, failure=failure))
    return records
