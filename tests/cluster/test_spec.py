"""The cluster: read, written and asked."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.cluster import Cluster, Task
from tfdist.errors import ClusterError

THREE = {"chief": ("a:1",), "worker": ("b:1", "c:1")}


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Any right cluster, with or without a task."""
    sizes = {
        "ps": draw(st.integers(0, 3)),
        "worker": draw(st.integers(1, 4)),
        "chief": draw(st.integers(0, 1)),
        "evaluator": draw(st.integers(0, 1)),
    }
    ports = draw(st.lists(st.integers(1, 65535), min_size=9, max_size=9, unique=True))
    host = draw(st.sampled_from(["127.0.0.1", "node-1", "[fd00::1]"]))
    jobs = {job: tuple(f"{host}:{ports.pop()}" for _ in range(n)) for job, n in sizes.items() if n}
    cluster = Cluster(jobs)
    return cluster.with_task(draw(st.sampled_from([None, *cluster.tasks])))


@settings(max_examples=50, deadline=None)
@given(clusters())
def test_a_cluster_that_is_written_is_read_as_the_same(cluster: Cluster) -> None:
    text = cluster.to_tf_config()
    again = Cluster.from_json(text, task_required=False)
    assert again == cluster
    assert hash(again) == hash(cluster)
    assert again.to_tf_config() == text
    assert again.digest() == cluster.digest()


@settings(max_examples=20, deadline=None)
@given(clusters())
def test_a_cluster_can_be_copied_and_pickled(cluster: Cluster) -> None:
    assert copy.deepcopy(cluster) == cluster
    assert pickle.loads(pickle.dumps(cluster)) == cluster


@settings(max_examples=20, deadline=None)
@given(clusters())
def test_every_task_reads_its_own_config(cluster: Cluster) -> None:
    for task in cluster.tasks:
        read = Cluster.from_environment({"TF_CONFIG": cluster.to_tf_config(task)})
        assert read == cluster.with_task(task)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["cluster", "task", "worker", "x"]), inner)
        ),
        max_leaves=8,
    )
)
def test_any_json_is_a_cluster_or_a_clear_error(config: Any) -> None:
    # Whatever is wrong: no other exception than ours.
    with contextlib.suppress(ClusterError):
        Cluster.from_json(json.dumps(config))


def test_jobs_come_in_one_order_whatever_the_spec_says() -> None:
    cluster = Cluster({"ps": ("d:1",), "worker": ("b:1", "c:1"), "chief": ("a:1",)})
    assert cluster.job_names == ("chief", "worker", "ps")
    assert list(map(str, cluster.tasks)) == ["chief:0", "worker:0", "worker:1", "ps:0"]
    assert len(cluster) == 4
    assert cluster.num_workers == 3


def test_jobs_that_are_no_mapping_are_refused() -> None:
    anything: Any = ["a:1"]
    with pytest.raises(ClusterError, match="map each job to its list of addresses"):
        Cluster(anything)


def test_a_cluster_cannot_be_changed() -> None:
    cluster = Cluster(THREE)
    with pytest.raises(TypeError):
        cluster.jobs["ps"] = ("d:1",)  # type: ignore[index]


def test_master_and_string_indices_are_accepted_as_platforms_emit_them() -> None:
    cluster = Cluster.from_json(
        {
            "cluster": {"master": ["a:1"], "worker": ["b:1", "c:1"]},
            "task": {"type": "master", "index": "0", "trial": "1", "cloud": "x"},
            "environment": "cloud",
            "rpc_layer": "grpc",
            "job": {"region": "x"},
        }
    )
    assert cluster == Cluster(THREE, Task("chief", 0))


def test_the_chief_leads_or_else_the_first_worker() -> None:
    assert Cluster(THREE).chief == Task("chief", 0)
    assert Cluster({"worker": ("b:1",)}).chief == Task("worker", 0)
    with pytest.raises(ClusterError, match="no chief and no worker"):
        _ = Cluster({"ps": ("d:1",)}).chief


def test_only_the_chief_is_the_chief() -> None:
    cluster = Cluster(THREE)
    assert cluster.with_task("chief").is_chief
    assert not cluster.with_task("worker:0").is_chief
    assert not cluster.is_chief


def test_a_task_has_an_address() -> None:
    cluster = Cluster(THREE)
    assert cluster.address("worker:1") == "c:1"
    assert cluster.address(Task("chief", 0)) == "a:1"
    with pytest.raises(ClusterError, match="out of range: worker:2"):
        cluster.address("worker:2")


def test_an_evaluator_may_stand_beside_the_cluster() -> None:
    cluster = Cluster(THREE, Task("evaluator", 0))
    assert cluster.task not in cluster.tasks
    with pytest.raises(ClusterError, match="no address"):
        cluster.address("evaluator")
    with pytest.raises(ClusterError, match="one evaluator at most"):
        cluster.with_task("evaluator:1")


@pytest.mark.parametrize("text", ["", "  ", "{}", " { } ", "{\n}"])
def test_an_empty_tf_config_means_no_cluster(text: str) -> None:
    assert Cluster.from_environment({"TF_CONFIG": text}) is None


def test_no_tf_config_means_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Cluster.from_environment({}) is None
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert Cluster.from_environment() is None
    monkeypatch.setenv("TF_CONFIG", Cluster(THREE).to_tf_config("worker:1"))
    assert Cluster.from_environment() == Cluster(THREE, Task("worker", 1))


def test_a_file_needs_no_task(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"cluster": THREE}))
    assert Cluster.from_file(path) == Cluster(THREE)
    path.write_text(Cluster(THREE).to_tf_config("worker:1"))
    assert Cluster.from_file(str(path)).task == Task("worker", 1)


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text('{"clutser": {}}')
    with pytest.raises(ClusterError, match=r"spec\.json: unknown key 'clutser'"):
        Cluster.from_file(path)
    path.write_bytes(b'{"cluster\xff": {}}')
    with pytest.raises(ClusterError, match=r"spec\.json: bytes that are not UTF-8"):
        Cluster.from_file(path)
    with pytest.raises(ClusterError, match=r"none\.json' that cannot be read \(no such file"):
        Cluster.from_file(tmp_path / "none.json")


def test_deep_nesting_is_a_clear_error() -> None:
    with pytest.raises(ClusterError, match="nested too deep"):
        Cluster.from_json("[" * 100_000)


def test_a_local_cluster_is_built_from_counts() -> None:
    cluster = Cluster.local(workers=2, chief=True, evaluator=True, ports=(1, 2, 3, 4))
    assert cluster.jobs == {
        "chief": ("127.0.0.1:1",),
        "worker": ("127.0.0.1:2", "127.0.0.1:3"),
        "evaluator": ("127.0.0.1:4",),
    }
    assert Cluster.task_count(workers=2, chief=True, evaluator=True) == 4


def test_parameter_servers_bring_a_chief_with_them() -> None:
    assert Cluster.local(workers=1, ps=1, ports=(1, 2, 3)).job_names == ("chief", "worker", "ps")
    assert Cluster.task_count(workers=1, ps=1) == 3


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({"workers": -1}, "workers=-1"),
        ({"workers": 1, "ps": -2}, "ps=-2"),
        ({"workers": True}, "workers=True"),
        ({"workers": 0}, "no worker and no chief"),
        ({"workers": 1, "ps": 1, "evaluator": True}, "tensorflow#46169"),
    ],
)
def test_counts_that_make_no_cluster_are_refused(counts: dict[str, Any], says: str) -> None:
    with pytest.raises(ClusterError, match=says):
        Cluster.local(**counts, ports=())


def test_every_task_needs_a_port() -> None:
    with pytest.raises(ClusterError, match="1 ports for 2 tasks"):
        Cluster.local(workers=2, ports=(1,))


def test_the_digest_tells_clusters_apart_and_not_their_spelling_or_task() -> None:
    cluster = Cluster({"worker": ("localhost:1", "localhost:2")})
    assert cluster.digest() == Cluster({"worker": ("127.0.0.1:1", "127.0.0.1:2")}).digest()
    assert cluster.digest() == cluster.with_task("worker:1").digest()
    assert cluster.digest() != Cluster({"worker": ("localhost:2", "localhost:1")}).digest()
