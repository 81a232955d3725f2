"""The degrees of a pipeline are checked before anything is built."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tfdist.errors import StrategyError
from tfdist.pipeline import PipelinePlan

FOUR = ("worker:0", "worker:1", "worker:2", "worker:3")


def test_the_degrees_are_listed() -> None:
    plan = PipelinePlan(FOUR, replicas=2, microbatches=8)
    assert plan.num_stages == 2
    assert plan.describe() == "4 tasks = 2 replicas x 2 tasks; 2 stages, 8 microbatches, 1f1b"


def test_several_stages_follow_each_other_on_a_task() -> None:
    plan = PipelinePlan(FOUR[:2], stages=4)
    assert [plan.task_of(stage) for stage in range(4)] == [0, 0, 1, 1]


def test_a_pattern_places_a_layer_on_another_task() -> None:
    plan = PipelinePlan(FOUR[:2], stages=1, place={"right_*": 1})
    assert [plan.placed(name, 0) for name in ("left_1", "right_1")] == [0, 1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"replicas": 3}, "4 tasks .* for 3 replicas x 1 stages"),
        ({"stages": 3}, "4 tasks .* for 1 replicas x 3 stages"),
        ({"microbatches": 0}, "microbatches=0: give a number of at least 1"),
        ({"schedule": "2f2b"}, "schedule='2f2b': give one of 'gpipe', '1f1b', 'zero_bubble', "),
        ({"schedule": "zero_bubble", "recompute": True}, "save memory with '1f1b'"),
        ({"stages": "dense"}, "give a list of layer names, such as \\['dense'\\]"),
        ({"stages": [3]}, "stages holds 3: give names of layers"),
        ({"stages": 0}, "stages=0: give layer names, or a number of stages"),
        ({"stages": 1.5}, "stages=1.5: give layer names, or a number of stages"),
        ({"place": {"a*": 4}}, "give the number of a task of one replica, 0 to 3"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(StrategyError, match=says):
        PipelinePlan(FOUR, **options)


def test_a_plan_is_two_dozen_words_and_a_value() -> None:
    one = PipelinePlan(FOUR, stages=8, microbatches=1)
    assert one.describe() == (
        "4 tasks = 1 replicas x 4 tasks; 8 stages (2 a task), 1 microbatches, 1f1b"
    )
    half = PipelinePlan(FOUR[:2], stages=1, place={"a": 1})
    assert (
        half.describe()
        == "2 tasks = 1 replicas x 2 tasks; 1 stages (0.5 a task), 4 microbatches, 1f1b"
    )
    assert one == PipelinePlan(FOUR, stages=8, microbatches=1)
    with pytest.raises(AttributeError):
        one.replicas = 2  # type: ignore[misc]


@pytest.mark.parametrize("name", ["microbatches", "replicas"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2", None])
def test_a_number_that_is_none_is_refused(name: str, value: Any) -> None:
    options = {name: value}
    with pytest.raises(StrategyError) as caught:
        PipelinePlan(FOUR, **options)
    assert str(caught.value) == f"{name}={value!r}: give a number of at least 1"


def test_the_defaults_are_one_replica_of_four_microbatches() -> None:
    plan = PipelinePlan(FOUR)
    assert (plan.microbatches, plan.replicas, plan.recompute, plan.schedule) == (
        4,
        1,
        False,
        "1f1b",
    )
    assert (plan.num_stages, plan.tasks_each, dict(plan.place)) == (4, 4, {})


def test_names_of_layers_begin_the_later_stages() -> None:
    names: Any = ["b", "c"]
    plan = PipelinePlan(FOUR[:3], stages=names)
    assert plan.stages == ("b", "c")
    assert plan.num_stages == 3
    assert [plan.task_of(stage) for stage in range(3)] == [0, 1, 2]


def test_a_plan_without_tasks_is_refused() -> None:
    with pytest.raises(StrategyError, match=r"^0 tasks \(\) for 1 replicas x 1 stages: "):
        PipelinePlan(())


def test_a_recomputed_pipeline_may_have_any_other_schedule() -> None:
    for schedule in ("gpipe", "1f1b", "sequential"):
        assert PipelinePlan(FOUR, schedule=schedule, recompute=True).recompute
    assert not PipelinePlan(FOUR, schedule="zero_bubble").recompute


def test_a_place_is_a_task_of_one_replica() -> None:
    plan = PipelinePlan(FOUR, replicas=2, stages=1, place={"a*": 1, "ab": 0})
    assert plan.placed("ab", 0) == 1  # the first pattern counts
    assert plan.placed("b", 0) == 0
    for wrong in (-1, 2, "1"):
        places: Any = {"a*": wrong}
        with pytest.raises(StrategyError, match=r"^place=\{'a\*': .*: give the number of a task"):
            PipelinePlan(FOUR, replicas=2, stages=1, place=places)


def test_fewer_stages_than_tasks_need_places() -> None:
    with pytest.raises(StrategyError, match=r"4 tasks .* for 1 replicas x 2 stages"):
        PipelinePlan(FOUR, stages=2)
    plan = PipelinePlan(FOUR, stages=2, place={"a": 3})
    assert [plan.task_of(stage) for stage in range(2)] == [0, 2]


def test_schedules_and_their_pictures_need_no_tensorflow() -> None:
    code = (
        "import sys, tfdist.pipeline as p; print(p.draw('1f1b', 3, 4));"
        "assert not {'tensorflow', 'keras', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
