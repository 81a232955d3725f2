"""A task's name, in and out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.cluster.task import JOBS, Task, canonical_job, index_from, nearest
from tfdist.errors import ClusterError

tasks = st.builds(Task, st.sampled_from(JOBS), st.integers(0, 10_000))


@settings(max_examples=30, deadline=None)
@given(tasks)
def test_a_name_that_is_written_is_read_as_the_same_task(task: Task) -> None:
    assert Task.parse(str(task)) == task


def test_a_task_is_named_by_job_and_index() -> None:
    assert str(Task("worker", 1)) == "worker:1"
    assert Task.parse(" worker:1 ") == Task("worker", 1)


@pytest.mark.parametrize("name", ["chief", "chief:0", "master", "master:0"])
def test_the_chief_has_several_names(name: str) -> None:
    assert Task.parse(name) == Task("chief", 0)


def test_the_evaluator_needs_no_index() -> None:
    assert Task.parse("evaluator") == Task("evaluator", 0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "task name ''; write job:index"),
        ("worker", "without an index; write for example worker:0"),
        ("ps", "without an index; write for example ps:0"),
        ("worker:", "write job:index"),
        (":1", "write job:index"),
        ("worker:x", "index 'x' that is not an integer"),
        ("worker:-1", "negative task index -1"),
        ("worker:1.5", "not an integer"),
        ("worker:1:2", "not an integer"),
        ("wroker:1", "did you mean 'worker'?"),
        ("gpu:0", "the jobs are chief, worker, ps, evaluator"),
    ],
)
def test_a_wrong_name_is_refused(name: str, says: str) -> None:
    with pytest.raises(ClusterError) as error:
        Task.parse(name)
    assert says in str(error.value)


def test_master_means_chief() -> None:
    assert canonical_job("master") == "chief"
    assert Task("master", 0) == Task("chief", 0)


def test_an_index_in_a_string_is_accepted_as_platforms_emit_it() -> None:
    assert index_from("0") == 0
    assert index_from("12") == 12


@pytest.mark.parametrize("index", [True, None, 1.0, "one", [], "1.0", "٣"])
def test_an_index_that_is_no_integer_is_refused(index: object) -> None:
    with pytest.raises(ClusterError, match="not an integer"):
        index_from(index)


def test_a_job_that_is_no_text_is_refused() -> None:
    with pytest.raises(ClusterError, match="unknown job 3"):
        canonical_job(3)


def test_nothing_is_suggested_for_a_name_that_is_like_no_other() -> None:
    assert nearest("zone", ["cluster", "task"]) == ""
    assert nearest("Cluster", ["cluster", "task"]) == "; did you mean 'cluster'?"
