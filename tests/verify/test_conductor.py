"""Which runs are made: by a conductor whose runs are answered from made records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.verify import made_records
from tfdist.diagnose.verify.conductor import Conductor
from tfdist.diagnose.verify.orders import END, Asked, Order
from tfdist.diagnose.verify.records import LATE, Failure, Note, Part, Record
from tfdist.diagnose.verify.verdict import DIFFERS, EQUAL, UNABLE, UNREPEATED, Verdict


class Program:
    """A program that differs until certain changes are made to it.

    Args:
        cures: the changes, all of which must be made, each with the factors of step 2 that it
            takes away.
        notes: what it asks and draws.
        jitter: what changed last bits make of a gradient.
        chance: what a second run with nothing changed makes of it, by chance, until `seeded` is
            among the changes.
        seeded: the change that takes the chance away.
    """

    def __init__(
        self,
        cures: dict[str, dict[str, float]],
        notes: tuple[Note, ...] = (),
        kinds: dict[str, str] | None = None,
        jitter: float = 0.0,
        chance: float = 0.0,
        seeded: str = "",
    ) -> None:
        self.chance = chance
        self.seeded = seeded
        self.cures = cures
        self.notes = notes
        self.kinds = kinds or {"dense": "Dense"}
        self.jitter = jitter
        self.orders: list[Order] = []

    def records(self, order: Order) -> dict[str, list[Record]]:
        factors: dict[str, Any] = {}
        for change, broken in self.cures.items():
            if change not in order.changes:
                factors |= broken
        chance = 0.0 if self.seeded in order.changes else self.chance
        by_jitter = self.jitter * bool(order.jitter) + chance
        jitter: dict[str, Any] = {"gradient": 1 + by_jitter * bool(order.jitter)}
        found = {
            "one": [made_records.run(at=2, **jitter)],
            "again": [made_records.run(at=2, **jitter)],
            "repeat": [made_records.run(at=2, gradient=1 + chance)],
            "many": made_records.workers(at=2, **factors),
        }
        for record in (one for records in found.values() for one in records):
            record.notes = list(self.notes)
            record.kinds = dict(self.kinds)
            record.callbacks = ["Prune"]
            record.lines = {"dense": "train.py, line 3"}
        return {kind: found[kind] for kind in order.kinds}

    def verdict(self, folder: Path, most_runs: int = 12) -> Verdict:
        asked = Asked(("train.py",), most_runs=most_runs)
        return Conductor(folder, asked, self.orders.append, self.records).conduct()

    @property
    def changes(self) -> list[tuple[str, ...]]:
        return [order.changes for order in self.orders if order.changes]


def test_what_is_equal_takes_one_run(tmp_path: Path) -> None:
    program = Program({})
    verdict = program.verdict(tmp_path)
    assert (verdict.found, verdict.code, verdict.steps) == (EQUAL, 0, 3)
    assert [order.kinds for order in program.orders] == [("one", "many")]
    last = Order.read(tmp_path, 2)
    assert last is not None
    assert last.kinds == (END,)


def test_a_strategy_that_comes_too_late_is_told(tmp_path: Path) -> None:
    """Though all is equal: `tfdist run` would refuse it."""
    verdict = Program({}, (Note(LATE, "train.py, line 5"),)).verdict(tmp_path)
    assert (verdict.found, verdict.late) == (EQUAL, "train.py, line 5")
    assert "note     train.py, line 5, makes its strategy after TensorFlow has" in verdict.text()
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_a_cause_is_named_by_the_change_that_takes_the_difference_away(tmp_path: Path) -> None:
    program = Program({"without Prune": {"weight": 2.0}})
    verdict = program.verdict(tmp_path)
    assert (verdict.found, verdict.code) == (DIFFERS, 2)
    assert [cause.kind for cause in verdict.causes] == ["callback Prune"]
    assert program.changes == [("without Prune",)]


def test_batch_normalization_is_tried_first_where_it_differs_first(tmp_path: Path) -> None:
    kinds = {"dense": "BatchNormalization"}
    program = Program({"synchronized": {"output": 2.0, "gradient": 3.0}}, kinds=kinds)
    verdict = program.verdict(tmp_path)
    assert [cause.kind for cause in verdict.causes] == ["batch normalization"]
    assert verdict.causes[0].lines == ("train.py, line 3",)
    assert program.changes == [("synchronized",)]


def test_two_causes_are_found_one_after_the_other(tmp_path: Path) -> None:
    kinds = {"dense": "BatchNormalization"}
    cures = {"synchronized": {"output": 2.0}, "no own sums": {"gradient": 2.0}}
    notes = (Note("sums over replicas", "train.py, line 9"),)
    verdict = Program(cures, notes, kinds).verdict(tmp_path)
    found = [cause.kind for cause in verdict.causes]
    assert found == ["batch normalization", "a sum of one's own over replicas"]
    assert verdict.causes[1].lines == ("train.py, line 9",)


def test_what_no_change_takes_away_is_told_with_what_was_tried(tmp_path: Path) -> None:
    program = Program({"nothing that is known": {"gradient": 2.0}})
    verdict = program.verdict(tmp_path, most_runs=3)
    assert verdict.causes == ()
    assert len(verdict.tried) == 3
    assert "not found" in verdict.text()


def test_rounding_that_grows_is_no_fault(tmp_path: Path) -> None:
    broken = {"nothing": {"gradient": 1 + 5e-5}}
    assert Program(broken, jitter=1e-5).verdict(tmp_path / "a").found == EQUAL
    assert Program(broken, jitter=1e-7).verdict(tmp_path / "b").found == DIFFERS


def test_a_program_that_does_not_repeat_itself_is_never_equal(tmp_path: Path) -> None:
    broken: dict[str, dict[str, float]] = {"nothing": {"gradient": 1.5}}
    program = Program(broken, chance=0.7, seeded="fixed entropy")
    verdict = program.verdict(tmp_path)
    assert (verdict.found, verdict.code) == (UNREPEATED, 1)
    assert verdict.first is not None
    assert (verdict.first.step, verdict.first.stage) == (2, "gradient")
    assert [cause.kind for cause in verdict.causes] == ["numbers that no seed fixes"]
    assert "one process repeats itself" in verdict.causes[0].shown_by
    assert verdict.text().startswith("cannot be compared: one process does not repeat itself\n")
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_chance_of_no_known_cause_is_told_with_what_was_tried(tmp_path: Path) -> None:
    broken: dict[str, dict[str, float]] = {"nothing": {"gradient": 1.5}}
    verdict = Program(broken, chance=0.7, seeded="none").verdict(tmp_path)
    assert (verdict.found, verdict.causes) == (UNREPEATED, ())
    assert "fixed entropy" in verdict.tried


def test_where_all_gradients_are_noise_nothing_is_said_to_be_equal(tmp_path: Path) -> None:
    broken: dict[str, dict[str, float]] = {"nothing": {"gradient": 1.5}}
    verdict = Program(broken, jitter=0.7).verdict(tmp_path)
    assert (verdict.found, verdict.code) == (UNABLE, 1)
    assert "every gradient of the first step" in verdict.text()


def test_what_rounding_may_make_of_anything_is_said_to_be_left_out(tmp_path: Path) -> None:
    program = Program({"nothing": {"gradient": 1.5}}, jitter=0.7)
    records = program.records

    def with_bias(order: Order) -> dict[str, list[Record]]:
        found = records(order)
        for step in (step for kind in found.values() for one in kind for step in one.steps):
            step.gradients["dense/bias"] = np.ones(2)
        return found

    program.records = with_bias  # type: ignore[method-assign]
    verdict = program.verdict(tmp_path)
    assert (verdict.found, verdict.left_out) == (EQUAL, 6)  # of two workers in three steps
    assert verdict.names == ("gradient dense/kernel",)
    assert f"({verdict.compared} arrays)" in verdict.text()
    assert "left out 6 arrays" in verdict.text()


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()


def test_rows_that_were_read_twice_need_no_experiment(tmp_path: Path) -> None:
    program = Program({})
    records = program.records

    def doubled(order: Order) -> dict[str, list[Record]]:
        found = records(order)
        for record in found.get("many", []):
            record.steps[0].parts = [Part(record.worker, made_records.MARKS[:4])]
        return found

    program.records = doubled  # type: ignore[method-assign]
    verdict = program.verdict(tmp_path)
    assert [cause.kind for cause in verdict.causes] == ["rows read twice"]
    assert program.changes == []


def test_a_script_that_fails_by_itself_is_not_compared(tmp_path: Path) -> None:
    program = Program({})
    failed = made_records.run(1, failure=Failure("ValueError", "no such file"))
    many = made_records.workers(1)
    program.records = lambda order: {"one": [failed], "many": many}  # type: ignore[method-assign]
    verdict = program.verdict(tmp_path)
    assert (verdict.found, verdict.code) == (UNABLE, 1)
    assert "fails in one process, too: ValueError: no such file" in verdict.text()


def test_a_strategy_that_is_not_in_step_is_told(tmp_path: Path) -> None:
    program = Program({})
    failure = Failure("StrategyError", "a pipeline over the jobs worker", own=True)
    ended = {"one": [made_records.run()], "many": made_records.workers(0, failure=failure)}
    program.records = lambda order: ended  # type: ignore[method-assign]
    verdict = program.verdict(tmp_path)
    assert (verdict.found, len(program.orders)) == (UNABLE, 1)
    assert "workers that train in step" in verdict.text()


def test_a_script_of_which_one_worker_trains_is_told(tmp_path: Path) -> None:
    program = Program({})
    many = made_records.workers()
    many[1].steps.clear()
    ended = {"one": [made_records.run()], "many": many}
    program.records = lambda order: ended  # type: ignore[method-assign]
    verdict = program.verdict(tmp_path)
    assert verdict.found == UNABLE
    assert "one worker trains" in verdict.text()


def test_a_verdict_is_the_same_after_json(tmp_path: Path) -> None:
    program = Program({"without Prune": {"weight": 2.0}})
    verdict = program.verdict(tmp_path)
    assert Verdict.from_json(verdict.to_json()) == verdict
    assert Verdict.from_json((tmp_path / "verdict.json").read_text()) == verdict
