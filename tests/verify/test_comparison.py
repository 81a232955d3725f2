"""The first difference of two runs, found in records that were made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.verify import made_records
from tfdist.diagnose.verify.comparison import (
    AFTER,
    BEFORE,
    END,
    GRADIENT,
    LAYER,
    METRIC,
    RESULT,
    ROWS,
    Comparison,
    compare,
    distances,
)
from tfdist.diagnose.verify.gathered import Gathered
from tfdist.diagnose.verify.records import Failure, LayerCall, Part, Result
from tfdist.diagnose.verify.rounding import Rounding, distance


def compared(rounding: Rounding | None = None, at: int = 2, **factors: Any) -> Comparison:
    one = Gathered.of([made_records.run()])
    many = Gathered.of(made_records.workers(at=at, **factors))
    return compare(one, many, rounding or Rounding())


def test_rows_that_are_shared_out_are_equal() -> None:
    found = compared()
    assert found.is_equal
    assert found.largest is not None
    assert found.largest.size == 0
    assert found.steps == 3


@pytest.mark.parametrize(
    ("factors", "stage", "name"),
    [
        ({"weight": 1.1}, BEFORE, "dense/kernel"),
        ({"output": 1.1}, LAYER, "dense"),
        ({"gradient": 1.1}, GRADIENT, "dense/kernel"),
        ({"loss": 1.1}, METRIC, "loss"),
        ({"output": 1.1, "gradient": 2.0, "loss": 2.0}, LAYER, "dense"),
    ],
)
def test_the_first_difference_is_named(factors: dict[str, Any], stage: str, name: str) -> None:
    first = compared(**factors).first
    assert first is not None
    assert (first.step, first.stage, first.name) == (2, stage, name)
    assert first.size == pytest.approx(0.1, rel=0.2) or stage in (GRADIENT, METRIC)


def test_a_fault_of_a_hundred_thousandth_is_seen_and_rounding_is_not() -> None:
    assert compared(gradient=1 + 3e-7).is_equal
    assert not compared(gradient=1 + 1e-5).is_equal


def test_what_changed_last_bits_make_is_no_difference() -> None:
    rounding = Rounding()
    rounding.learn([(2, (GRADIENT, "dense/kernel"), 1e-4)])
    assert compared(rounding, gradient=1 + 1e-3).is_equal
    assert not compared(rounding, gradient=1 + 1e-2).is_equal
    rounding = Rounding()
    rounding.learn([(4, (GRADIENT, "dense/kernel"), 1e-4)])  # later, it has grown
    assert not compared(rounding, gradient=1 + 1e-3).is_equal


def test_a_gradient_that_is_scaled_has_a_ratio() -> None:
    first = compared(gradient=0.5).first
    assert first is not None
    assert first.ratio == pytest.approx(0.5)


def test_rows_of_any_order_are_the_same_batch() -> None:
    one = made_records.run()
    many = made_records.workers()
    for record, rows in zip(many, ((7, 1, 3, 5), (6, 0, 4, 2)), strict=True):
        record.steps = [made_records.step(i, rows, record.worker) for i in (1, 2, 3)]
    assert compare(Gathered.of([one]), Gathered.of(many), Rounding()).is_equal


def test_other_rows_are_told_before_what_follows_from_them() -> None:
    many = made_records.workers(at=2, output=3.0)
    part = many[1].steps[1].parts[0]
    many[1].steps[1].parts[0] = Part(part.replica, part.marks + 100)
    found = compare(Gathered.of([made_records.run()]), Gathered.of(many), Rounding())
    assert found.first is not None
    assert found.first.stage == ROWS
    assert found.first.size == pytest.approx(0.5)


def test_rows_that_two_workers_read_are_counted() -> None:
    many = made_records.workers(steps=2)
    assert Gathered.of(many).read_twice() == 0
    many[1].steps[0].parts = [Part(1, np.arange(4))]
    assert Gathered.of(many).read_twice() == 4


def test_workers_that_end_where_one_process_goes_on() -> None:
    failure = Failure("DataError", "the workers read different data")
    many = made_records.workers(steps=1, failure=failure)
    found = compare(Gathered.of([made_records.run()]), Gathered.of(many), Rounding())
    assert found.first is not None
    assert (found.first.stage, found.first.name) == (END, "DataError")


def test_the_failure_that_others_followed_from_is_told() -> None:
    many = made_records.workers(steps=1, failure=Failure("TaskLost", "worker:1 is gone"))
    many[1].failure = Failure("ValueError", "no")
    failure = Gathered.of(many).failure
    assert failure is not None
    assert failure.kind == "ValueError"


def test_a_worker_of_its_own_mind_is_seen() -> None:
    many = made_records.workers()
    many[1].steps[1].end["dense/kernel"] = np.asarray([1.0, 1.0, 1.0])
    first = compare(Gathered.of([made_records.run()]), Gathered.of(many), Rounding()).first
    assert first is not None
    assert (first.stage, first.worker) == (AFTER, 1)


def test_distances_have_all_numbers_of_a_step() -> None:
    one = Gathered.of([made_records.run()])
    keys = {key for step, key, _ in distances(one, one) if step == 1}
    assert {(GRADIENT, "dense/kernel"), (LAYER, "dense"), (METRIC, "loss")} <= keys


def test_what_is_not_finite_is_equal_where_it_is_the_same() -> None:
    nan, one = np.asarray([np.nan, 1.0]), np.asarray([1.0, 1.0])
    assert distance(nan, nan) == 0
    assert distance(nan, one) == float("inf")
    assert distance(one, np.ones(3)) == float("inf")


def test_a_name_that_only_one_side_has_is_a_difference() -> None:
    for side in (0, 1):
        one, many = made_records.run(), made_records.workers()
        run = (one, many[1])[side]
        run.steps[0].gradients["dense/bias"] = np.ones(2)
        first = compare(Gathered.of([one]), Gathered.of(many), Rounding()).first
        assert first is not None
        assert (first.step, first.stage, first.name) == (1, GRADIENT, "dense/bias")
        assert first.size == float("inf")


def test_variables_that_are_made_in_the_first_step_are_compared_after_it() -> None:
    one, many = made_records.run(), made_records.workers()
    for record in (one, *many):
        record.steps[0].end["adam/momentum"] = np.ones(3)
    for record in many:
        record.steps[0].begin["adam/momentum"] = np.zeros(3)
    assert compare(Gathered.of([one]), Gathered.of(many), Rounding()).is_equal
    del one.steps[0].end["adam/momentum"]
    assert not compare(Gathered.of([one]), Gathered.of(many), Rounding()).is_equal


@pytest.mark.parametrize(
    "others",
    [
        [Result("predict", 3, {"": np.ones(2)})],
        [],
        [Result("evaluate", 3, {"loss": np.ones(1), "mae": np.ones(1)})],
    ],
)
def test_other_results_are_a_difference(others: list[Result]) -> None:
    one, many = made_records.run(), made_records.workers()
    one.results = [Result("evaluate", 3, {"loss": np.ones(1)})]
    for record in many:
        record.results = list(others)
    first = compare(Gathered.of([one]), Gathered.of(many), Rounding()).first
    assert first is not None
    assert (first.step, first.stage) == (3, RESULT)


def test_rows_of_another_shape_are_a_difference_and_wholes_are_said_to_be_left_out() -> None:
    for by_row in (True, False):
        one, many = made_records.run(1), made_records.workers(1)
        one.steps[0].layers = [LayerCall("dense", 0, np.ones((8, 2)), by_row)]
        for i, record in enumerate(many):
            record.steps[0].layers = [LayerCall("dense", i, np.ones((4, 3)), by_row)]
        found = compare(Gathered.of([one]), Gathered.of(many), Rounding())
        assert found.is_equal == (not by_row)
        assert found.names == (() if by_row else ("output of a layer dense",))


def test_what_workers_make_of_rows_that_they_have_gathered_is_left_out() -> None:
    one, many = made_records.run(1), made_records.workers(1)
    one.steps[0].layers = [LayerCall("dense", 0, np.ones((8, 2)), True)]
    for i, record in enumerate(many):
        record.steps[0].layers = [LayerCall("dense", i, np.ones(5), False)]  # folded as a whole
    found = compare(Gathered.of([one]), Gathered.of(many), Rounding())
    assert found.is_equal
    assert found.names == ("output of a layer dense",)


def test_a_model_of_few_bits_is_compared_by_its_own_rounding() -> None:
    for eps in (2.0**-10, 2.0**-7):  # float16, bfloat16
        assert not compared(Rounding(eps)).is_blind
        assert compared(Rounding(eps)).is_equal
        assert not compared(Rounding(eps), gradient=1.5).is_equal


def test_where_rounding_may_make_any_gradient_the_comparison_is_blind() -> None:
    assert not compared().is_blind
    rounding = Rounding()
    rounding.learn([(1, (GRADIENT, "dense/kernel"), 0.5)])
    assert compared(rounding).is_blind
