"""Plans whose tasks share the weights of each stage, and of one stage alone."""

from __future__ import annotations

from typing import Any

import pytest

from tfdist.errors import StrategyError
from tfdist.schedules.pipeline_plan import PipelinePlan
from tfdist.schedules.weight_layout import WeightLayout

EIGHT = tuple(f"worker:{i}" for i in range(8))
LAYOUT: Any = {"a": (None, "model")}


def test_tasks_are_shared_out_to_replicas_stages_and_parts() -> None:
    plan = PipelinePlan(EIGHT, replicas=2, tensor_parallel_size=2)
    assert (plan.tasks_each, plan.num_stages) == (2, 2)
    assert [plan.names_of(task) for task in range(2)] == [
        "worker:0 + worker:1",
        "worker:2 + worker:3",
    ]
    assert plan.describe() == (
        "8 tasks = 2 replicas x 2 stages' tasks x 2 parts; 2 stages, 4 microbatches, 1f1b"
    )
    assert PipelinePlan(EIGHT).names_of(3) == "worker:3"


def test_one_stage_takes_all_the_tasks_of_a_replica() -> None:
    assert PipelinePlan.of_one_stage(EIGHT).replicas == 1
    plan = PipelinePlan.of_one_stage(EIGHT, replicas=2)
    assert (plan.tensor_parallel_size, plan.tasks_each, plan.num_stages) == (4, 1, 1)
    assert (plan.microbatches, plan.schedule) == (1, "gpipe")
    assert plan.describe() == ("8 tasks = 2 replicas x 4 tasks, each with a part of the weights")
    assert PipelinePlan.of_one_stage(EIGHT, 2, 4) == plan
    several = PipelinePlan(EIGHT, stages=1, tensor_parallel_size=8, microbatches=2)
    assert several.describe().endswith("; 1 stages, 2 microbatches, 1f1b")
    two = PipelinePlan(EIGHT[:4], microbatches=1, tensor_parallel_size=2)
    assert two.describe().endswith("2 stages, 1 microbatches, 1f1b")


@pytest.mark.parametrize(("replicas", "size"), [(3, None), (2, 2), (2, 8), (1, 3)])
def test_degrees_whose_product_is_another_are_refused(replicas: int, size: int | None) -> None:
    with pytest.raises(StrategyError, match=f"for {replicas} replicas x .* share the weights"):
        PipelinePlan.of_one_stage(EIGHT, replicas, size)


def test_a_number_of_replicas_that_is_none_is_refused() -> None:
    none: Any = "2"
    with pytest.raises(StrategyError, match="replicas='2': give a number of at least 1"):
        PipelinePlan.of_one_stage(EIGHT, none)


def test_what_does_not_divide_is_refused_by_the_names_of_what_can_be_changed() -> None:
    with pytest.raises(StrategyError) as caught:
        PipelinePlan(EIGHT[:6], replicas=3, tensor_parallel_size=4)
    assert "3 replicas x 1 stages x 4 tasks that share each stage's weights" in str(caught.value)
    assert str(caught.value).endswith(
        "change replicas, stages, tensor_parallel_size or the cluster"
    )
    with pytest.raises(StrategyError, match=r"x 2 tasks that .* stages, tensor_parallel_size or"):
        PipelinePlan(EIGHT[:7], tensor_parallel_size=2)
    with pytest.raises(StrategyError) as caught:
        PipelinePlan(EIGHT, replicas=3)
    assert str(caught.value).endswith("change replicas, stages or the cluster")


def test_a_layout_is_read_where_it_is_given() -> None:
    assert PipelinePlan(EIGHT).weight_layout is None
    layout = PipelinePlan.of_one_stage(EIGHT, layout_map=LAYOUT).weight_layout
    assert isinstance(layout, WeightLayout)
    assert layout.axis("a", 2) == 1
    with pytest.raises(StrategyError, match="layout_map='x'"):
        PipelinePlan.of_one_stage(EIGHT, layout_map="x")
