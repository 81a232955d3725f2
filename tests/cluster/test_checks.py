"""The numbers and the excerpts in what is said of a wrong cluster."""

from __future__ import annotations

import json

import pytest

from tfdist.cluster import Cluster, Task
from tfdist.cluster.checks import KINDS, check_kind
from tfdist.errors import ClusterError

FIRST = '{"cluster": {"worker": %s}, "task": {"type": "worker", "index": 0}}'


def addresses(count: int, first: int = 1) -> tuple[str, ...]:
    return tuple(f"10.0.0.1:{first + i}" for i in range(count))


@pytest.mark.parametrize(
    ("count", "has"),
    [(1, "worker:0 alone"), (2, "worker:0 to worker:1"), (3, "worker:0 to worker:2")],
)
def test_an_index_out_of_range_is_told_with_those_that_there_are(count: int, has: str) -> None:
    cluster = Cluster({"worker": addresses(count)})
    assert str(cluster.with_task(f"worker:{count - 1}").task) == f"worker:{count - 1}"
    with pytest.raises(ClusterError) as caught:
        cluster.with_task(f"worker:{count}")
    assert str(caught.value) == (
        f"task index out of range: worker:{count} in a cluster that has {has}; give the task one "
        "of these, or add its address to the cluster"
    )


@pytest.mark.parametrize(("workers", "told"), [(1, "1 worker"), (2, "2 workers")])
@pytest.mark.parametrize("servers", [1, 2])
def test_tasks_are_counted_in_the_singular_and_the_plural(
    workers: int, servers: int, told: str
) -> None:
    jobs = {"worker": addresses(workers), "ps": addresses(servers, 10)}
    with pytest.raises(ClusterError) as caught:
        check_kind(jobs, "parameter_server")
    assert str(caught.value) == (
        f"no chief in the cluster ({told}, {servers} ps); parameter_server needs a chief, workers "
        "and ps tasks: add a task of the job chief to coordinate"
    )


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_kind_of_one_machine_sets_no_condition(kind: str) -> None:
    check_kind({"ps": addresses(1)}, kind)


@pytest.mark.parametrize(("index", "text"), [(1, "a job has one evaluator at most: evaluator:0")])
def test_a_job_has_one_evaluator(index: int, text: str) -> None:
    cluster = Cluster({"worker": addresses(1)})
    assert str(cluster.with_task("evaluator:0").task) == "evaluator:0"
    with pytest.raises(ClusterError, match=f"^task evaluator:{index}; {text}$"):
        cluster.with_task(f"evaluator:{index}")


@pytest.mark.parametrize("length", [59, 60, 61, 62])
def test_what_is_no_object_is_shown_up_to_sixty_letters(length: int) -> None:
    text = json.dumps(["a" * (length - 4)])
    assert len(text) == length
    with pytest.raises(ClusterError) as caught:
        Cluster.from_json(text)
    shown = text if length <= 60 else f"{text[:57]}..."
    assert str(caught.value).startswith(f"{shown} where an object belongs; write {{")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (json.dumps('{"cluster": {"worker": ["a:1"]}}'), "JSON within a string, .*; write the obj"),
        ("/home/me/spec.json", 'the path "/home/me/spec.json" for the cluster spec itself; write'),
        (FIRST % '"a:1, b:2"', r'write a list of addresses: \["a:1", "b:2"\]'),
        (FIRST % '["a:1,b:2"]', "addresses 'a:1,b:2' in one string; give each a string"),
    ],
)
def test_what_is_put_into_strings_is_told_how_it_belongs(text: str, told: str) -> None:
    with pytest.raises(ClusterError, match=told):
        Cluster.from_json(text)


@pytest.mark.parametrize(
    ("text", "column", "near"),
    [
        ('{"cluster":{"worker": [oops, "abcdefghijklm"]}}', 24, '{"worker": [oops, "abcde'),
        ("oops", 1, "oops"),
        ('{"a": b, "cdefgh": 1}', 7, '{"a": b, "cdefgh":'),
    ],
)
def test_what_is_no_json_is_shown_twelve_letters_before_and_after(
    text: str, column: int, near: str
) -> None:
    with pytest.raises(ClusterError) as caught:
        Cluster.from_json(text)
    assert str(caught.value) == (
        f"text that is not JSON: expecting value at line 1, column {column}, near {near!r}; mend "
        "it there"
    )


def test_a_cluster_and_a_task_are_values() -> None:
    cluster = Cluster({"worker": addresses(2)}, Task("worker", 1))
    with pytest.raises(AttributeError):
        cluster.task = None  # type: ignore[misc]
    with pytest.raises(AttributeError):
        cluster.task.index = 0  # type: ignore[misc, union-attr]
    assert len(cluster.digest()) == 12


def test_tasks_are_in_order_by_job_and_index() -> None:
    tasks = [Task("worker", 1), Task("chief"), Task("worker", 0)]
    assert list(map(str, sorted(tasks))) == ["chief:0", "worker:0", "worker:1"]


def test_without_counts_a_local_cluster_is_one_worker() -> None:
    assert Cluster.local(ports=[2222]).jobs == {"worker": ("127.0.0.1:2222",)}
    assert Cluster.task_count() == 1
    assert Cluster.local(ports=[2222]).task_count(2) == 2
