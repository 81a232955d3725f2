"""Which runs are made, one after the other: two to compare, then experiments to find the cause."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from tfdist.diagnose.verify.causes import (
    DRAWS,
    Cause,
    Changes,
    cause_of,
    of_rows_read_twice,
    tries,
    tries_to_repeat,
)
from tfdist.diagnose.verify.change_names import BITS_OF_WEIGHTS
from tfdist.diagnose.verify.comparison import END as END_OF_RUN
from tfdist.diagnose.verify.comparison import (
    LAYER,
    ROWS,
    Comparison,
    Difference,
    compare,
    distances,
)
from tfdist.diagnose.verify.gathered import Gathered
from tfdist.diagnose.verify.orders import END, Asked, Order
from tfdist.diagnose.verify.records import LATE, Failure, Record
from tfdist.diagnose.verify.repeating import first_unrepeated
from tfdist.diagnose.verify.rounding import Rounding
from tfdist.diagnose.verify.verdict import DIFFERS, EQUAL, UNABLE, UNREPEATED, Verdict

__all__ = ["VERDICT", "Conductor"]

VERDICT = "verdict.json"
"""The file in which the verdict is left."""

_ONE_TRAINS = Failure(
    "",
    "one worker trains, and the others serve it (a pipeline, parameter servers, or a script that "
    "trains on the chief alone); verify compares workers that train in step",
)

_BLIND = Failure(
    "",
    "rounding alone may change every gradient of the first step by more than 1 %: all of them are "
    "zero but for noise",
)

_NO_ROUNDING = 1e-2
"""Relative: a layer's output that is so far from another one differs by more than last bits."""


class Conductor:
    """Finds out whether a script is equal on workers, and if not, why.

    Args:
        folder: where orders are given and records are left.
        asked: what to verify.
        obey: does the first task's part of a run.
        records: waits for the records of a run; by its kinds, those of all processes.
    """

    def __init__(
        self,
        folder: Path,
        asked: Asked,
        obey: Callable[[Order], None],
        records: Callable[[Order], dict[str, list[Record]]],
    ) -> None:
        self._folder = folder
        self._asked = asked
        self._obey = obey
        self._records = records
        self._runs = 0
        self._rounding = Rounding()
        self._late = ""
        self._began = time.monotonic()

    def conduct(self) -> Verdict:
        """Makes the runs, and leaves the verdict in the folder."""
        try:
            verdict = self._verdict()
        finally:
            self._runs += 1
            Order(self._runs, (END,)).write(self._folder)
        verdict = dataclasses.replace(verdict, seconds=time.monotonic() - self._began)
        (self._folder / VERDICT).write_text(verdict.to_json())
        return verdict

    def _run(
        self, kinds: tuple[str, ...], changes: Changes = (), jitter: int = 0
    ) -> list[Gathered]:
        self._runs += 1
        order = Order(self._runs, kinds, changes, jitter)
        order.write(self._folder)
        self._obey(order)
        found = self._records(order)
        return [Gathered.of(found[kind]) for kind in kinds]

    def _verdict(self) -> Verdict:
        one, many = self._run(("one", "many"))
        self._late = next((note.line for note in one.notes if note.what == LATE), "")
        for failure in (one.failure, many.failure):
            if failure is not None and failure.own and failure.kind == "StrategyError":
                return self._tell(UNABLE, failure=_of_strategy(failure))
        if not one.steps or one.failure is not None:
            return self._tell(UNABLE, failure=one.failure)
        if many.failure is None and many.first.steps and not many.steps:
            return self._tell(UNABLE, failure=_ONE_TRAINS)
        self._rounding = Rounding(one.first.eps)
        found = compare(one, many, self._rounding)
        if found.first is not None and _may_be_rounding(found.first):
            found, unrepeated = self._with_rounding(one, many, ())
            if unrepeated is not None:
                found = dataclasses.replace(found, differences=(unrepeated,))
                causes, tried = self._causes_of_unrepeated(found, one, many)
                return self._tell(UNREPEATED, found, causes=causes, tried=tried)
        if found.is_equal:
            if found.is_blind:
                return self._tell(UNABLE, found, _BLIND)
            return self._tell(EQUAL, found)
        causes, tried = self._causes(found, one, many)
        return self._tell(DIFFERS, found, many.failure, causes, tried)

    def _with_rounding(
        self, one: Gathered, many: Gathered, changes: Changes
    ) -> tuple[Comparison, Difference | None]:
        """Compares, once it is known what changed last bits make of the script in one process.

        Returns:
            The comparison, and what one process does not do alike a second time: where there is
            any, the comparison tells nothing, since the rounding was learnt from it.
        """
        if any(note.what == DRAWS for note in one.notes):
            changes = (*changes, BITS_OF_WEIGHTS)
        *disturbed, repeated = self._run(("one", "again", "repeat"), changes, jitter=1)
        unrepeated = first_unrepeated(one, repeated)
        if unrepeated is None:
            for run in disturbed:
                self._rounding.learn(distances(one, run))
        return compare(one, many, self._rounding), unrepeated

    def _causes_of_unrepeated(
        self, found: Comparison, one: Gathered, many: Gathered
    ) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
        """Tries changes until one process does the same twice."""
        tried: list[str] = []
        for change in list(tries_to_repeat(one))[: self._asked.most_runs]:
            first, second = self._run(("one", "repeat"), (change,))
            ran = bool(first.steps) and first.failure is None
            if ran and first_unrepeated(first, second) is None:
                cause = cause_of(change, found, one, many, self._asked.workers)
                shown = cause.shown_by.replace("it is equal", "one process repeats itself")
                return (dataclasses.replace(cause, shown_by=shown),), (*tried,)
            tried.append(change)
        return (), (*tried,)

    def _tell(
        self,
        found: str,
        comparison: Comparison | None = None,
        failure: Failure | None = None,
        causes: tuple[Cause, ...] = (),
        tried: tuple[str, ...] = (),
    ) -> Verdict:
        layer = ""
        if comparison is not None:
            layers = [one.name for one in comparison.differences if one.stage == LAYER]
            layer = next(iter(layers), "")
        return Verdict(
            found,
            self._asked.workers,
            steps=0 if comparison is None else comparison.steps,
            runs=self._runs,
            largest=None if comparison is None else comparison.largest,
            first=None if comparison is None else comparison.first,
            layer=layer,
            causes=causes,
            failure=failure,
            late=self._late,
            tried=tried,
            compared=0 if comparison is None else comparison.compared,
            left_out=0 if comparison is None else comparison.left_out,
            names=() if comparison is None else comparison.names,
        )

    def _causes(
        self, found: Comparison, one: Gathered, many: Gathered
    ) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
        """Tries changes until the difference is gone; a change that moves it on is kept."""
        causes: list[Cause] = []
        kept: Changes = ()
        tried: list[str] = []
        left = self._asked.most_runs
        while left > 0 and found.first is not None:
            if found.first.stage == ROWS and (count := many.read_twice()):
                causes.append(of_rows_read_twice(count, many))
                break
            for change in tries(found.first, one, many):
                if change in kept or (change in tried and not causes):
                    continue
                if left <= 0:
                    return (*causes,), (*tried,)
                left -= 1
                changed_one, changed_many = self._run(("one", "many"), (*kept, change))
                if not changed_one.steps or changed_one.failure is not None:
                    tried.append(change)
                    continue
                after = compare(changed_one, changed_many, self._rounding)
                if after.first is not None and after.first.size < _NO_ROUNDING:
                    after, unrepeated = self._with_rounding(
                        changed_one, changed_many, (*kept, change)
                    )
                    if unrepeated is not None:  # nothing can be said of what is by chance
                        tried.append(change)
                        continue
                if after.is_equal or _is_later(after.first, found.first):
                    causes.append(cause_of(change, found, one, many, self._asked.workers))
                    kept = (*kept, change)
                    found, one, many = after, changed_one, changed_many
                    break
                tried.append(change)
            else:
                break
        return (*causes,), (*tried,)


def _of_strategy(failure: Failure) -> Failure:
    why = "verify compares workers that train in step, which this script's strategy is not for"
    return Failure("", f"{why}: {failure.message}", failure.line)


def _may_be_rounding(first: Difference) -> bool:
    """Whether last bits could have made a difference: those of a gradient that is zero can."""
    if first.stage in (ROWS, END_OF_RUN):
        return False
    return first.stage != LAYER or first.size < _NO_ROUNDING


def _is_later(after: Difference | None, before: Difference) -> bool:
    """Whether a difference comes about clearly later: in another step, or another stage of it."""
    if after is None:
        return True
    if after.stage == END_OF_RUN != before.stage:  # the change itself has ended it
        return False
    return after.order[:2] > before.order[:2]
